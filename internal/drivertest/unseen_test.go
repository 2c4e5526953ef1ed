package drivertest

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/pgprod/pgprod/internal/pgtest"
)

// The manual says so of each.
func TestWhatAutoDoesntSee(t *testing.T) {
	t.Parallel()
	for reset, left := range map[string]string{"auto": "A", "always": ""} {
		db := openPool(t, oneConn(pgtest.NewDatabase(t), "pool_reset", reset))
		mustExec(t, db, "create sequence s")
		mustExec(t, db, "create table t (a int)")
		mustExec(t, db, "create function sets() returns trigger language plpgsql as "+
			"$$ begin perform set_config('app.tenant', 'A', false); return new; end $$")
		mustExec(t, db, "create trigger sets before insert on t for each row execute function sets()")
		mustExec(t, db, "insert into t values (1)")
		assert.Equal(t, left, get[string](t, db, askTenant), reset)

		get[int](t, db, "select nextval('s')")
		_, err := db.Exec("select currval('s')")
		assert.Equal(t, reset == "always", err != nil, reset)
	}
}
