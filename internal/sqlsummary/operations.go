package sqlsummary

import "strings"

// operations are those that telemetry goes on to tell apart when there are too many summaries: a fixed set, in capitals.
var operations = func() map[string]bool {
	set := map[string]bool{}
	for verb := range strings.FieldsSeq(`ABORT ALTER ANALYSE ANALYZE BEGIN CALL CHECKPOINT CLOSE CLUSTER COMMENT COMMIT COPY CREATE
		DEALLOCATE DECLARE DELETE DISCARD DO DROP END EXECUTE EXPLAIN FETCH GRANT IMPORT INSERT LISTEN LOAD LOCK MERGE MOVE
		NOTIFY PREPARE REASSIGN REFRESH REINDEX RELEASE RESET REVOKE ROLLBACK SAVEPOINT SECURITY SELECT SET SHOW START TABLE
		TRUNCATE UNLISTEN UPDATE VACUUM VALUES`) {
		set[verb] = true
	}
	for _, kind := range []string{"AGGREGATE", "DATABASE", "DOMAIN", "EVENT TRIGGER", "EXTENSION", "FOREIGN TABLE", "FUNCTION",
		"INDEX", "MATERIALIZED VIEW", "OPERATOR", "POLICY", "PROCEDURE", "PUBLICATION", "ROLE", "RULE", "SCHEMA", "SEQUENCE",
		"SERVER", "STATISTICS", "SUBSCRIPTION", "TABLE", "TABLESPACE", "TRIGGER", "TYPE", "USER", "VIEW"} {
		for _, verb := range []string{"ALTER ", "COMMENT ON ", "CREATE ", "DROP "} {
			set[verb+kind] = true
		}
	}
	for _, more := range []string{"COMMENT ON COLUMN", "REFRESH MATERIALIZED VIEW", "REINDEX INDEX", "REINDEX TABLE",
		"SET CONSTRAINTS", "SET ROLE", "SET TIME ZONE", "SET TRANSACTION", "START TRANSACTION"} {
		set[more] = true
	}
	return set
}()

// known is the one of operations that an operation is, or begins with; _OTHER if there is none.
func known(operation string) string {
	for s := strings.ToUpper(operation); s != ""; s = s[:max(strings.LastIndexByte(s, ' '), 0)] {
		if operations[s] {
			return s
		}
	}
	return other
}
