// Package netlab is a network for tests whose packets are really lost: hosts in network namespaces of their own (Linux only).
//
// A test binary first isolates itself, so that nothing touches the machine's own network, and all is gone when it ends:
//
//	func TestMain(m *testing.M) {
//		if err := netlab.Isolate(); err != nil {
//			fmt.Fprintln(os.Stderr, err)
//			os.Exit(1)
//		}
//		os.Exit(pgtest.Main(m))
//	}
//
// A Network is a bridge, and a Host is a namespace that is connected to it. What runs in the test binary itself is at the bridge's
// address. Host.Do starts things on a host. Host.Set says what becomes of packets between a host and all others:
// they may get lost, come twice, or come late. Host.Reboot forgets all connections of a host without a word, as a loss of
// power does.
//
//	isolate.go    Isolate
//	network.go    Network: the bridge
//	host.go       Host: a namespace and its cable
//	wire.go       Wire: what becomes of packets; nftables' rules for it
//	slow.go       a cable in user space, whose packets come late: not every kernel has netem
//	namespace.go  network namespaces, and threads in them
//	tools.go      the programs ip and nft
package netlab
