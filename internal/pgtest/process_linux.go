package pgtest

import "syscall"

// dieWithParent makes the kernel shut the server down at once (SIGQUIT, so that it still removes its shared memory)
// when this process dies without Stop.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGQUIT }
