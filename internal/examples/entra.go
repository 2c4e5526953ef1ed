package examples

import (
	"context"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/pgprod/pgprod"
)

// Entra returns a source of tokens for Azure Database for PostgreSQL. identity is that of azidentity.NewDefaultAzureCredential,
// for instance; user is the role that was made for it by pgaadauth_create_principal. The SDK keeps a token until some minutes
// before its end, and gives the same one until then.
func Entra(identity azcore.TokenCredential, user string) Source {
	scope := policy.TokenRequestOptions{Scopes: []string{"https://ossrdbms-aad.database.windows.net/.default"}}
	return func(ctx context.Context) (pgprod.Credentials, error) {
		token, err := identity.GetToken(ctx, scope)
		if err != nil {
			return pgprod.Credentials{}, err
		}
		return pgprod.Credentials{User: user, Password: token.Token, Expires: token.ExpiresOn}, nil
	}
}
