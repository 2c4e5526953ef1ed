package diary

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// hosts are the outages of hosts. The zero value is ready for use. It is safe for concurrent use.
type hosts struct {
	mu     sync.Mutex // guards by and closed; nothing else is locked under it
	by     map[string]*hostOutage
	closed bool
}

// A hostOutage is the outage of one host. A host goes and comes back once in an outage, unlike a pool whose dials fail again and
// again, so that a timer looks whether an outage that wasn't logged at its beginning has become a long one.
type hostOutage struct {
	outage
	look *time.Timer // guarded by hosts.mu; nil: the outage was logged, or there is none
}

// of returns the outage of a host.
func (h *hosts) of(host string) *hostOutage {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.by == nil {
		h.by = map[string]*hostOutage{}
	}
	if h.by[host] == nil {
		h.by[host] = &hostOutage{}
	}
	return h.by[host]
}

// lookAgain has look called once the outage is a long one, unless it ends before, or the diary is closed.
func (h *hosts) lookAgain(o *hostOutage, look func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if o.look != nil {
		o.look.Stop()
	}
	if !h.closed {
		o.look = time.AfterFunc(longOutage, look) // forget or close stops it
	}
}

// forget ends the wait of lookAgain.
func (h *hosts) forget(o *hostOutage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if o.look != nil {
		o.look.Stop()
		o.look = nil
	}
}

// close ends all waits.
func (h *hosts) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, o := range h.by {
		if o.look != nil {
			o.look.Stop()
		}
	}
}

// A Host is one of those that a pool may connect to.
type Host struct {
	Name        string // host:port as configured
	Role        string // as it last said: primary, read-only or standby; "": not known
	Connections int    // the pool's to it
}

// attrs are the attributes of a line about the host.
func (h Host) attrs(more ...slog.Attr) []slog.Attr {
	return append([]slog.Attr{slog.String("host", h.Name), slog.String("role", h.Role)}, more...)
}

// HostDown notes that a host can't be used any more, and why. It is called once, when the host goes. That is logged unless the
// host comes and goes all the time; then it is logged only if it stays away.
func (d *Diary) HostDown(h Host, f Failure) {
	d.events.Add("host", h.Name+" down", h.Name+" is down: "+f.Text)
	o := d.hosts.of(h.Name)
	attrs := h.attrs(slog.String("error", f.Text), slog.Int("connections", h.Connections))
	write := func(log bool, unlogged int) {
		if log {
			d.write(context.Background(), slog.LevelWarn, "pgprod: a host is down", unlogged, attrs...)
		}
	}
	log, unlogged := o.begin(time.Now())
	write(log, unlogged)
	if !log {
		d.hosts.lookAgain(o, func() { write(o.goesOn(time.Now())) })
	}
}

// HostUp notes that a host that was down can be used again. It is called once, when the host comes back.
func (d *Diary) HostUp(h Host) {
	d.events.Add("host", h.Name+" up", h.Name+" is up again"+asRole(h.Role))
	o := d.hosts.of(h.Name)
	d.hosts.forget(o)
	if logged, after, _ := o.end(time.Now()); logged {
		d.write(context.Background(), slog.LevelInfo, "pgprod: a host is up again", 0,
			h.attrs(slog.Duration("after", after.Round(time.Millisecond)))...)
	}
}

// HostHasRole notes that a host has another role than before. bad says that somebody should look at it.
func (d *Diary) HostHasRole(h Host, was string, bad bool) {
	level := slog.LevelInfo
	if bad {
		level = slog.LevelWarn
	}
	d.events.Add("host", h.Name+" role", h.Name+" was "+was+", and is "+h.Role+" now")
	d.tell(context.Background(), &d.ofPool, "role of "+h.Name+" "+h.Role, level, "pgprod: a host has another role",
		h.attrs(slog.String("was", was))...)
}

// asRole says in which role a host is, behind a text.
func asRole(role string) string {
	if role == "" {
		return ""
	}
	return ", as " + role
}
