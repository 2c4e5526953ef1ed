// Package schema describes the entities of the ent tests: owners have pets. ent generates the rest of the folder above.
package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"
)

// Owner is unique by its name.
type Owner struct{ ent.Schema }

// Fields implements ent.Interface.
func (Owner) Fields() []ent.Field {
	return []ent.Field{
		field.String("name").Unique(),
		field.JSON("tags", []string{}).Optional(),
		field.Time("born").Optional(),
	}
}

// Edges implements ent.Interface.
func (Owner) Edges() []ent.Edge { return []ent.Edge{edge.To("pets", Pet.Type)} }

// Pet belongs to an owner.
type Pet struct{ ent.Schema }

// Fields implements ent.Interface.
func (Pet) Fields() []ent.Field { return []ent.Field{field.String("name")} }

// Edges implements ent.Interface.
func (Pet) Edges() []ent.Edge {
	return []ent.Edge{edge.From("owner", Owner.Type).Ref("pets").Unique().Required()}
}
