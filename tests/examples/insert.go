// go get github.com/jackc/pgx/v5
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/jackc/pgx/v5"
)

func main() {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close(ctx)

	// The order and its message are there together, or neither is.
	var jobID int64
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		statements := []struct {
			sql  string
			args []any
		}{
			{"create table if not exists orders (id text primary key, phone text not null)", nil},
			{"insert into orders (id, phone) values ($1, $2) on conflict do nothing", []any{"1001", "+15550142200"}},
			// The plainest way: a row.
			{"insert into outbox.jobs (phone, body) values ($1, $2)",
				[]any{"+15550142200", "Thank you for your order!"}},
		}
		for _, statement := range statements {
			if _, err := tx.Exec(ctx, statement.sql, statement.args...); err != nil {
				return err
			}
		}
		// The same with a key, so that a second run does not send twice; it gives the job's id.
		return tx.QueryRow(ctx,
			"select outbox.enqueue(phone => $1, body => $2, payload => $3, dedupe_key => $4)",
			"+15550142200", "Order 1001 is on its way.", map[string]string{"name": "Ann"}, "order-1001-shipped",
		).Scan(&jobID)
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("queued job %d\n", jobID)
}
