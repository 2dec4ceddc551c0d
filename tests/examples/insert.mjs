// npm install pg
import pg from "pg";

const client = new pg.Client({ connectionString: process.env.DATABASE_URL });
await client.connect();
try {
  // The order and its message are there together, or neither is.
  await client.query("begin");
  await client.query("create table if not exists orders (id text primary key, phone text not null)");
  await client.query("insert into orders (id, phone) values ($1, $2) on conflict do nothing", ["1001", "+15550142200"]);

  // The plainest way: a row.
  await client.query("insert into outbox.jobs (phone, body) values ($1, $2)", [
    "+15550142200",
    "Thank you for your order!",
  ]);

  // The same with a key, so that a second run does not send twice; it gives the job's id.
  const { rows } = await client.query(
    "select outbox.enqueue(phone => $1, body => $2, payload => $3, dedupe_key => $4) as id",
    ["+15550142200", "Order 1001 is on its way.", { name: "Ann" }, "order-1001-shipped"],
  );
  await client.query("commit");
  console.log(`queued job ${rows[0].id}`);
} finally {
  // Ending the session without a commit rolls back.
  await client.end();
}
