package examples

import (
	"context"

	"golang.org/x/oauth2/google"

	"github.com/pgprod/pgprod"
)

// CloudSQL returns a source of tokens for Google Cloud SQL with IAM database authentication. user is the account's e-mail
// address, of a service account without .gserviceaccount.com. The identity is the one that Google's libraries find
// (application default credentials).
//
// It looks for the identity each time, since a token source that is kept gives the same token until ten seconds before its
// end, too late to replace connections one after another.
func CloudSQL(user string) Source {
	const scope = "https://www.googleapis.com/auth/sqlservice.login"
	return func(ctx context.Context) (pgprod.Credentials, error) {
		identity, err := google.FindDefaultCredentials(ctx, scope)
		if err != nil {
			return pgprod.Credentials{}, err
		}
		token, err := identity.TokenSource.Token()
		if err != nil {
			return pgprod.Credentials{}, err
		}
		return pgprod.Credentials{User: user, Password: token.AccessToken, Expires: token.Expiry}, nil
	}
}
