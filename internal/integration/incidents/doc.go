// Package incidents makes on real servers what makes statements slow, and asks whether what pgprod says of it is right. The
// test knows the truth, since it holds the locks itself. The same befalls XSAM/otelsql and otelpgx, to show what they tell.
//
//	incidents_test.go  the incidents, and what is right to say of each
//	scene_test.go      the stage of one incident: the pool that suffers, and other programs
//	clients_test.go    pgprod and the others
//	told_test.go       what a client tells: log, spans, the error, the live page
//	verdict_test.go    whether that is right; the table
//	tangle_test.go     three pools and another program lock the same rows, and each blocker that is named is checked
//	asked_test.go      how often the server is asked
package incidents
