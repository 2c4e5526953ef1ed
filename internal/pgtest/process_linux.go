package pgtest

import "syscall"

// dieWithParent makes the kernel end the server when this process dies without Stop. It does so with SIGQUIT, so that the
// server still removes its shared memory.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGQUIT }
