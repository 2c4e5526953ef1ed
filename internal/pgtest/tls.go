package pgtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"time"
)

// TLS says which certificate a server has.
type TLS struct {
	// CA signs the certificate. Default: nil, which means a new authority.
	CA *CA
	// Hosts are the names and addresses in the certificate. Default: localhost, 127.0.0.1 and ::1.
	Hosts []string
	// NotBefore and NotAfter say when the certificate is valid. Default: from an hour ago to a day from now.
	NotBefore, NotAfter time.Time
}

// withDefaults returns t with the defaults in place of what isn't set.
func (t TLS) withDefaults() (TLS, error) {
	if len(t.Hosts) == 0 {
		t.Hosts = []string{"localhost", "127.0.0.1", "::1"}
	}
	if t.NotBefore.IsZero() {
		t.NotBefore = time.Now().Add(-time.Hour)
	}
	if t.NotAfter.IsZero() {
		t.NotAfter = time.Now().Add(24 * time.Hour)
	}
	if t.CA != nil {
		return t, nil
	}
	ca, err := NewCA()
	t.CA = ca
	return t, err
}

// CA is a private certificate authority.
type CA struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// NewCA returns a new authority, which is valid for ten years.
func NewCA() (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	template, err := newCertificate("pgtest CA", time.Now().Add(-time.Hour), time.Now().AddDate(10, 0, 0))
	if err != nil {
		return nil, err
	}
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	return &CA{certificate: certificate, key: key}, nil
}

// PEM returns the authority's own certificate.
func (ca *CA) PEM() []byte { return encode("CERTIFICATE", ca.certificate.Raw) }

// Issue returns a new certificate with its key. It is for a server with these names and addresses, or for a client, whose
// user is the first of hosts.
func (ca *CA) Issue(hosts []string, notBefore, notAfter time.Time) (certPEM, keyPEM []byte, err error) {
	if len(hosts) == 0 {
		return nil, nil, fmt.Errorf("pgtest: a certificate needs a host")
	}
	template, err := newCertificate(hosts[0], notBefore, notAfter)
	if err != nil {
		return nil, nil, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	return ca.sign(template)
}

// sign makes a key, and a certificate for it by the template.
func (ca *CA) sign(template *x509.Certificate) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("pgtest: %w", err)
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, ca.certificate, &key.PublicKey, ca.key)
	if err != nil {
		return nil, nil, fmt.Errorf("pgtest: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("pgtest: %w", err)
	}
	return encode("CERTIFICATE", cert), encode("PRIVATE KEY", private), nil
}

// newCertificate returns a template for a certificate.
func newCertificate(name string, notBefore, notAfter time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: notBefore, NotAfter: notAfter,
	}, nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// writeTLS writes the certificates into the home and returns the settings that name them.
func (s *Server) writeTLS() (settings []string, err error) {
	if s.config.TLS == nil {
		if s.config.StandbyOf != nil {
			settings = []string{"ssl = off"} // the copy of the primary's configuration may have it on
		}
		return settings, nil
	}
	config, err := s.config.TLS.withDefaults()
	if err != nil {
		return nil, err
	}
	cert, key, err := config.CA.Issue(config.Hosts, config.NotBefore, config.NotAfter)
	if err != nil {
		return nil, err
	}
	settings = []string{"ssl = on"}
	for _, file := range []struct {
		setting, name string
		content       []byte
	}{
		{"ssl_cert_file", "server.crt", cert},
		{"ssl_key_file", "server.key", key},
		{"ssl_ca_file", "ca.crt", config.CA.PEM()}, // for clients' certificates
	} {
		path := filepath.Join(s.home.path, file.name)
		if err := s.account.writeFile(path, file.content); err != nil {
			return nil, err
		}
		settings = append(settings, file.setting+" = "+quoteSetting(path))
	}
	s.caFile = filepath.Join(s.home.path, "ca.crt")
	return settings, nil
}
