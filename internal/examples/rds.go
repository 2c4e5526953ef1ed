package examples

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/rds/auth"

	"github.com/pgprod/pgprod"
)

// RDS returns a source of tokens for Amazon RDS and Aurora, whose roles have rds_iam. endpoint is host:port as in the DSN, and
// must not be an alias; user is the DSN's. The token is made on this machine and costs no request, but for the identity's own
// credentials, which cfg renews: it is that of config.LoadDefaultConfig.
//
// A token is good for logins for 15 minutes, and not beyond the end of the credentials that it was signed with. A session
// outlives its token.
func RDS(cfg aws.Config, endpoint, user string) Source {
	const lifetime = 15 * time.Minute
	return func(ctx context.Context) (pgprod.Credentials, error) {
		expires := time.Now().Add(lifetime)
		identity, err := cfg.Credentials.Retrieve(ctx)
		if err != nil {
			return pgprod.Credentials{}, err
		}
		if identity.CanExpire && identity.Expires.Before(expires) {
			expires = identity.Expires
		}
		token, err := auth.BuildAuthToken(ctx, endpoint, cfg.Region, user, signer(identity))
		return pgprod.Credentials{User: user, Password: token, Expires: expires}, err
	}
}

// signer provides the credentials of which the end is known, where cfg.Credentials might have newer ones by now.
func signer(identity aws.Credentials) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return identity, nil })
}
