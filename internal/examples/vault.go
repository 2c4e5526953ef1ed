package examples

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/pgprod/pgprod"
)

// Vault returns a source of roles that the database secrets engine makes, such as database/creds/shop. Each answer is a lease
// of a role of its own, which Vault drops at the lease's end. client must be logged in; api's LifetimeWatcher keeps it so.
func Vault(client *api.Client, path string) Source {
	return func(ctx context.Context) (pgprod.Credentials, error) {
		asked := time.Now()
		secret, err := client.Logical().ReadWithContext(ctx, path)
		if err != nil {
			return pgprod.Credentials{}, err
		}
		if secret == nil {
			return pgprod.Credentials{}, fmt.Errorf("vault has nothing at %s", path)
		}
		user, _ := secret.Data["username"].(string)
		password, _ := secret.Data["password"].(string)
		if user == "" || password == "" {
			return pgprod.Credentials{}, fmt.Errorf("vault has no username and password at %s", path)
		}
		return pgprod.Credentials{
			User: user, Password: password,
			Expires: asked.Add(time.Duration(secret.LeaseDuration) * time.Second),
		}, nil
	}
}
