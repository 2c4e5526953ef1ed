package examples_test

import (
	"context"
	"log"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/hashicorp/vault/api"

	"github.com/pgprod/pgprod"
	"github.com/pgprod/pgprod/internal/examples"
)

func ExampleVault() {
	client, err := api.NewClient(nil) // VAULT_ADDR, VAULT_TOKEN
	if err != nil {
		log.Fatal(err)
	}
	db, err := pgprod.Open("postgres://db.example.com/shop",
		pgprod.WithCredentials(examples.Vault(client, "database/creds/shop")))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
}

func ExampleRDS() {
	cfg, err := config.LoadDefaultConfig(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	const host = "shop.cluster-abc123.eu-central-1.rds.amazonaws.com"
	db, err := pgprod.Open("postgres://"+host+"/shop?sslmode=verify-full&sslrootcert=global-bundle.pem",
		pgprod.WithCredentials(examples.RDS(cfg, host+":5432", "app")))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
}

func ExampleEntra() {
	identity, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		log.Fatal(err)
	}
	db, err := pgprod.Open("postgres://shop.postgres.database.azure.com/shop?sslmode=verify-full&sslrootcert=system",
		pgprod.WithCredentials(examples.Entra(identity, "app")))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
}

func ExampleCloudSQL() {
	db, err := pgprod.Open("postgres://10.0.0.3/shop?sslmode=verify-ca&sslrootcert=server-ca.pem",
		pgprod.WithCredentials(examples.CloudSQL("app@my-project.iam")))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
}
