//go:build !linux

package faulttest

import "syscall"

// dieWithTests does nothing where the kernel can't.
func dieWithTests(*syscall.SysProcAttr) {}
