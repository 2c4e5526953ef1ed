package examples_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/examples"
	"github.com/pgprod/pgprod/internal/pgtest"
)

// answering is an emulation of a service that answers each request alike.
func answering(t *testing.T, status int, answer any) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(server.Close)
	return server
}

func vaultClient(t *testing.T, status int, answer any) *api.Client {
	t.Helper()
	cfg := api.DefaultConfig()
	cfg.Address, cfg.MaxRetries = answering(t, status, answer).URL, 0
	client, err := api.NewClient(cfg)
	require.NoError(t, err)
	return client
}

// TestARoleOfVaultsLogsIn has Vault emulated, and the server real.
func TestARoleOfVaultsLogsIn(t *testing.T) {
	t.Parallel()
	server := pgtest.StartTB(t, pgtest.Config{Password: "of postgres"})
	require.NoError(t, server.Exec(t.Context(), "create role v_shop_1 login password 'of the lease'"))
	client := vaultClient(t, http.StatusOK, map[string]any{
		"lease_id": "database/creds/shop/1", "lease_duration": 3600,
		"data": map[string]string{"username": "v_shop_1", "password": "of the lease"},
	})
	source := examples.Vault(client, "database/creds/shop")
	credentials, err := source(t.Context())
	require.NoError(t, err)
	assert.WithinDuration(t, time.Now().Add(time.Hour), credentials.Expires, time.Minute)

	db, err := pgprod.Open(fmt.Sprintf("postgres://%s:%d/postgres?sslmode=disable", server.Host(), server.Port()),
		pgprod.WithCredentials(source))
	require.NoError(t, err)
	defer db.Close()
	var user string
	require.NoError(t, db.QueryRow("select session_user").Scan(&user))
	assert.Equal(t, "v_shop_1", user)
}

func TestWhatVaultHasNotIsAnError(t *testing.T) {
	t.Parallel()
	for status, answer := range map[int]any{
		http.StatusNotFound: map[string]any{}, http.StatusForbidden: map[string]any{"errors": []string{"permission denied"}},
		http.StatusOK: map[string]any{"data": map[string]string{"value": "s3cret"}},
	} {
		_, err := examples.Vault(vaultClient(t, status, answer), "database/creds/shop")(t.Context())
		require.Error(t, err)
		assert.NotContains(t, err.Error(), "s3cret")
	}
}

func TestATokenForRDSIsGoodForAQuarterOfAnHourOrAsLongAsItsIdentity(t *testing.T) {
	t.Parallel()
	identity := aws.Credentials{AccessKeyID: "AKID", SecretAccessKey: "s3cret", SessionToken: "session"}
	for left, want := range map[time.Duration]time.Duration{0: 15 * time.Minute, time.Hour: 15 * time.Minute, time.Minute: time.Minute} {
		identity.CanExpire, identity.Expires = left > 0, time.Now().Add(left)
		cfg := aws.Config{Region: "eu-central-1", Credentials: aws.CredentialsProviderFunc(
			func(context.Context) (aws.Credentials, error) { return identity, nil })}
		credentials, err := examples.RDS(cfg, "db.example.com:5432", "app")(t.Context())
		require.NoError(t, err)
		assert.Equal(t, "app", credentials.User)
		assert.WithinDuration(t, time.Now().Add(want), credentials.Expires, 30*time.Second)
		token, err := url.Parse("https://" + credentials.Password)
		require.NoError(t, err)
		assert.Equal(t, "900", token.Query().Get("X-Amz-Expires"), "seconds, says the SDK")
		assert.Equal(t, "app", token.Query().Get("DBUser"))
	}
}

// fixed is an emulation of an identity of Azure's.
type fixed azcore.AccessToken

func (f fixed) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if len(o.Scopes) != 1 || o.Scopes[0] != "https://ossrdbms-aad.database.windows.net/.default" {
		return azcore.AccessToken{}, fmt.Errorf("scopes %v", o.Scopes)
	}
	return azcore.AccessToken(f), nil
}

func TestATokenOfEntrasIsThePassword(t *testing.T) {
	t.Parallel()
	end := time.Now().Add(time.Hour)
	credentials, err := examples.Entra(fixed{Token: "t0ken", ExpiresOn: end}, "app")(t.Context())
	require.NoError(t, err)
	assert.Equal(t, pgprod.Credentials{User: "app", Password: "t0ken", Expires: end}, credentials)
}

func TestATokenOfGooglesIsThePassword(t *testing.T) {
	tokens := answering(t, http.StatusOK, map[string]any{"access_token": "t0ken", "token_type": "Bearer", "expires_in": 3600})
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	account, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "app@my-project.iam.gserviceaccount.com", "token_uri": tokens.URL,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})),
	})
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "account.json")
	require.NoError(t, os.WriteFile(file, account, 0o600))
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file)

	credentials, err := examples.CloudSQL("app@my-project.iam")(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "app@my-project.iam", credentials.User)
	assert.Equal(t, "t0ken", credentials.Password)
	assert.WithinDuration(t, time.Now().Add(time.Hour), credentials.Expires, time.Minute)
}
