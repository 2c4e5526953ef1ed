package conventions

import (
	"maps"

	"go.opentelemetry.io/otel/attribute"
)

// A Level says how much an attribute is needed.
type Level string

// The levels. What is required conditionally is Required here if its condition is met by each program that is looked at.
const (
	Required    Level = "required"
	Recommended Level = "recommended"
	Optional    Level = "optional" // also what has a condition that isn't always met
)

// ofServer are the attributes that name the server. The port is checked by a rule of its own.
var ofServer = map[string]Level{
	"db.system.name": Required, "db.namespace": Required, "server.address": Recommended, "server.port": Optional,
}

// spanAttributes are those that the page on PostgreSQL lists for spans, with network.peer.* of the page on all databases.
var spanAttributes = with(ofServer, map[string]Level{
	"db.response.status_code": Optional, "error.type": Optional, "db.collection.name": Optional, "db.operation.name": Optional,
	"db.operation.batch.size": Optional, "db.query.summary": Optional, "db.query.text": Optional,
	"db.stored_procedure.name": Optional, "db.response.returned_rows": Optional,
	"network.peer.address": Optional, "network.peer.port": Optional,
})

// atCreation are the attributes that samplers may decide by.
var atCreation = []string{"db.system.name", "db.namespace", "db.query.summary", "db.query.text", "server.address", "server.port"}

// types are the types of values. All others are texts.
var types = map[string]attribute.Type{
	"server.port": attribute.INT64, "network.peer.port": attribute.INT64,
	"db.operation.batch.size": attribute.INT64, "db.response.returned_rows": attribute.INT64,
}

// A conventional is what the model says of a metric.
type conventional struct {
	instrument string // histogram, updowncounter or counter
	unit       string
	buckets    []float64 // nil: none are advised
	attributes map[string]Level
}

var (
	inSeconds   = []float64{0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10}
	inRows      = []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000}
	ofOperation = with(ofServer, map[string]Level{
		"db.response.status_code": Optional, "error.type": Optional, "db.collection.name": Optional, "db.operation.name": Optional,
		"db.query.summary": Optional, "db.query.text": Optional, "db.stored_procedure.name": Optional,
		"network.peer.address": Optional, "network.peer.port": Optional,
	})
	ofPool = with(ofServer, map[string]Level{"db.client.connection.pool.name": Required})
)

// metrics are those for clients of a database.
var metrics = map[string]conventional{
	"db.client.operation.duration":     {"histogram", "s", inSeconds, ofOperation},
	"db.client.response.returned_rows": {"histogram", "{row}", inRows, ofOperation},
	"db.client.connection.count": {"updowncounter", "{connection}", nil,
		with(ofPool, map[string]Level{"db.client.connection.state": Required})},
	"db.client.connection.idle.max":         {"updowncounter", "{connection}", nil, ofPool},
	"db.client.connection.idle.min":         {"updowncounter", "{connection}", nil, ofPool},
	"db.client.connection.limit":            {"updowncounter", "{connection}", nil, ofPool},
	"db.client.connection.pending_requests": {"updowncounter", "{request}", nil, ofPool},
	"db.client.connection.timeouts":         {"counter", "{timeout}", nil, ofPool},
	"db.client.connection.create_time":      {"histogram", "s", nil, ofPool},
	"db.client.connection.wait_time":        {"histogram", "s", nil, ofPool},
	"db.client.connection.use_time":         {"histogram", "s", nil, ofPool},
}

// with returns the rows of both tables.
func with(a, b map[string]Level) map[string]Level {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}
