package main

import (
	"context"
	"errors"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

// note is a model of GORM's: the table notes.
type note struct {
	ID   int64
	Name string
}

// gormCreate lets GORM create a note, by https://gorm.io/docs/connecting_to_the_database.html#Existing-database-connection.
// Unless told otherwise it does so in a transaction.
func gormCreate(_ context.Context, c client) (op, error) {
	below, ok := c.(*sqlClient)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	db, err := gorm.Open(postgres.New(postgres.Config{Conn: below.db}), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, _, _ int) error {
		n := note{Name: "a note"}
		done := db.WithContext(ctx).Create(&n)
		if done.Error == nil && n.ID < 1 {
			return errors.New("gorm.Create: the note has no number")
		}
		return expect("gorm.Create", done.RowsAffected, 1, done.Error)
	}, nil
}
