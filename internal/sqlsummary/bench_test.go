package sqlsummary

import "testing"

// typical is a statement of 200 bytes with parameters.
const typical = `SELECT o.id, o.created_at, c.name FROM shop.orders AS o JOIN customers c ON c.id = o.customer_id ` +
	`WHERE o.state = $1 AND o.created_at >= $2 AND c.region IN ($3, $4) ORDER BY o.created_at DESC LIMIT $5`

const typicalWithLiterals = `SELECT o.id, o.created_at, c.name FROM shop.orders AS o JOIN customers c ON c.id = o.customer_id ` +
	`WHERE o.state = 'open' AND o.created_at >= '2024-01-01' AND c.region IN (1, 2) ORDER BY o.created_at DESC LIMIT 10`

func BenchmarkParse(b *testing.B) {
	for name, sql := range map[string]string{"parameters": typical, "literals": typicalWithLiterals} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(sql)))
			for b.Loop() {
				Parse(sql)
			}
		})
	}
}

func BenchmarkCacheHit(b *testing.B) {
	c := NewCache(Limits{}, summaryOf)
	c.Get(typical)
	b.Run("alone", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c.Get(typical)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				c.Get(typical)
			}
		})
	})
}

func BenchmarkCacheMiss(b *testing.B) {
	c := NewCache(Limits{Entries: 16}, summaryOf)
	texts := make([]string, 64)
	for i := range texts {
		texts[i] = typical + string(rune('a'+i%26)) + string(rune('a'+i/26))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		c.Get(texts[i%len(texts)])
	}
}
