package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgprod/pgprod/internal/pgtest/loopback"
)

const (
	// startTimeout limits a start in addition to the caller's context. A server that isn't ready by then won't be.
	startTimeout = time.Minute
	// portAttempts is how many free ports are tried: another process may take a port after it was found free.
	portAttempts = 5
	// usualPort is PostgreSQL's own, for servers that have an address for themselves.
	usualPort = 5432
)

// Start starts a new server, and returns when it accepts connections. Call Stop in the end, which removes its files. If this
// process dies before, the server ends too (on Linux), and the next Start removes the files.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	a, err := serverAccount()
	if err != nil {
		return nil, err
	}
	prog, err := cfg.programs(ctx, a)
	if err != nil {
		return nil, err
	}
	h, err := newHome(a)
	if err != nil {
		return nil, err
	}
	s := &Server{prog: prog, account: a, home: h, config: cfg.clone(), control: make(chan struct{}, 1)}
	if primary := cfg.StandbyOf; primary != nil { // a standby has the users of its primary, with their passwords
		s.password = primary.currentPassword()
		s.config.Password = s.password
	}
	s.life, s.end = context.WithCancelCause(context.Background())
	live.add(s)
	if err := s.exclusively(ctx, s.bringUp); err != nil {
		return nil, errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
	}
	return s, nil
}

// bringUp fills the data directory and starts the server on it for the first time.
func (s *Server) bringUp(ctx context.Context) error {
	if err := s.fillDataDir(ctx); err != nil {
		return err
	}
	if err := s.writeConfig(); err != nil {
		return err
	}
	if err := s.launchOnFreePort(ctx); err != nil {
		return err
	}
	if s.config.Password == "" || s.config.StandbyOf != nil {
		return nil
	}
	return s.SetPassword(ctx, s.config.Password)
}

// fillDataDir makes the data directory: a copy of the template, or for a standby of its primary's.
func (s *Server) fillDataDir(ctx context.Context) error {
	if s.config.StandbyOf != nil {
		return s.baseBackup(ctx, s.config.StandbyOf)
	}
	dir, err := template(ctx, s.prog, s.account)
	if err != nil {
		return err
	}
	return copyTree(dir, s.home.data(), s.account)
}

// defaultSettings are for a server that starts and works fast, and may lose its data if the machine crashes.
var defaultSettings = []string{
	"fsync = off",
	"synchronous_commit = off",
	"full_page_writes = off",
	"max_connections = 200",
	"shared_buffers = 16MB",
	"wal_keep_size = 512MB", // so that a standby finds the log from its backup on, or from where it was cut off
	"checkpoint_timeout = 30min",
	"autovacuum = off",
	"dynamic_shared_memory_type = mmap", // uses files in the data directory, so that a crash leaves none elsewhere
	"timezone = UTC",
	"log_timezone = UTC",
	"log_line_prefix = '%m [%p] %a '",
	"logging_collector = off",
}

// writeConfig adds our settings and the caller's to postgresql.conf, where the last one wins, and writes pg_hba.conf.
func (s *Server) writeConfig() error {
	lines := slices.Clone(defaultSettings)
	tls, err := s.writeTLS()
	if err != nil {
		return err
	}
	lines = append(lines, tls...)
	lines = append(lines, s.followPrimary()...)
	for name, value := range s.config.Settings {
		lines = append(lines, name+" = "+quoteSetting(value))
	}
	conf := filepath.Join(s.home.data(), "postgresql.conf")
	f, err := os.OpenFile(conf, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	_, err = f.WriteString("\n" + strings.Join(lines, "\n") + "\n")
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("pgtest: write %s: %w", conf, err)
	}
	hba := filepath.Join(s.home.data(), "pg_hba.conf")
	if err := os.WriteFile(hba, []byte(strings.Join(s.hba(), "\n")+"\n"), 0o600); err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	return nil
}

// quoteSetting quotes a value for postgresql.conf.
func quoteSetting(value string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(value) + "'"
}

// hba returns the lines of pg_hba.conf. The first ones are for Admin, so that Config.HBA can't lock it out.
func (s *Server) hba() []string {
	lines := []string{"local all " + adminUser + " trust", "local replication " + adminUser + " trust"}
	if s.config.HBA != nil {
		return append(lines, s.config.HBA...)
	}
	method := "trust"
	if s.config.Password != "" {
		method = "scram-sha-256"
	}
	from := []string{"local %s all", "host %s all 127.0.0.1/32", "host %s all ::1/128"}
	if s.config.Address != "" {
		from = append(from, "host %s all all")
	}
	for _, who := range from {
		for _, database := range []string{"all", "replication"} {
			lines = append(lines, fmt.Sprintf(who, database)+" "+method)
		}
	}
	return lines
}

// launchOnFreePort starts the postmaster on the port in Config or, without one, on a free port, which the server keeps.
func (s *Server) launchOnFreePort(ctx context.Context) (err error) {
	if s.config.Address != "" && s.config.Port == 0 {
		s.config.Port = usualPort
	}
	if s.config.Port != 0 {
		s.port = s.config.Port
		return s.launch(ctx)
	}
	for range portAttempts {
		if s.port, err = loopback.FreePort(); err != nil {
			return fmt.Errorf("pgtest: %w", err)
		}
		if err = s.launch(ctx); err == nil || !strings.Contains(err.Error(), "could not bind") {
			return err
		}
	}
	return err
}

// launch starts the postmaster and returns when it accepts connections.
func (s *Server) launch(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("not ready after %v", startTimeout))
	defer cancel()
	log, err := os.OpenFile(s.home.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	defer func() { _ = log.Close() }() // the server has its own file descriptor
	// Not with ctx, which ends with this call: the server must outlive it.
	cmd := command(context.Background(), s.account, s.home.path, s.prog.path("postgres"), "-D", s.home.data(),
		"-p", strconv.Itoa(s.port), "-k", s.home.socket, "-c", "listen_addresses="+s.Host())
	cmd.Stdout, cmd.Stderr = log, log
	proc, err := startProcess(cmd, s.config.Network)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.proc = proc
	s.mu.Unlock()
	return s.awaitReady(ctx, proc)
}

var errEnded = errors.New("the server ended")

// awaitReady polls the status that the postmaster writes into postmaster.pid, as pg_ctl does. That needs no connection and
// no authentication.
func (s *Server) awaitReady(ctx context.Context, proc *process) error {
	err := poll(ctx, func() (bool, error) {
		if proc.ended() {
			return false, errEnded
		}
		lines := s.pidFile()
		return len(lines) > 7 && lines[0] == strconv.Itoa(proc.pid()) && lines[7] == "ready", nil
	})
	if err != nil {
		return fmt.Errorf("pgtest: start the server: %w; its log ends with:\n%s", err, s.logTail())
	}
	return nil
}

// pidFile returns the lines of postmaster.pid: process number, data directory, start time, port, socket directory, listen
// address, shared memory (key and id), status. It returns nil if there is no such file.
func (s *Server) pidFile() []string {
	text, err := os.ReadFile(filepath.Join(s.home.data(), "postmaster.pid"))
	if err != nil {
		return nil
	}
	lines := strings.Split(string(text), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return lines
}

// logTail returns the end of the log, for error messages.
func (s *Server) logTail() string {
	const most = 2000
	text, err := os.ReadFile(s.home.log())
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text[max(0, len(text)-most):]))
}
