// Package debugpage tests the live page as a reader sees it: in a real Chromium, with and without JavaScript, wide and
// narrow, light and dark. PGPROD_SCREENSHOTS names a directory for its screenshots.
package debugpage
