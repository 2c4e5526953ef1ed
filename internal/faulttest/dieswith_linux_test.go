package faulttest

import "syscall"

// dieWithTests makes the kernel kill a process when this one dies without having stopped it.
func dieWithTests(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
