# pip install "psycopg[binary]"
import os

import psycopg
from psycopg.types.json import Jsonb

# Leaving the block commits: the order and its message are there together, or neither is.
with psycopg.connect(os.environ["DATABASE_URL"]) as conn:
    conn.execute("create table if not exists orders (id text primary key, phone text not null)")
    conn.execute("insert into orders (id, phone) values (%s, %s) on conflict do nothing", ("1001", "+15550142200"))

    # The plainest way: a row.
    conn.execute(
        "insert into outbox.jobs (phone, body) values (%s, %s)",
        ("+15550142200", "Thank you for your order!"),
    )

    # The same with a key, so that a second run does not send twice; it gives the job's id.
    (job_id,) = conn.execute(
        "select outbox.enqueue(phone => %s, body => %s, payload => %s, dedupe_key => %s)",
        ("+15550142200", "Order 1001 is on its way.", Jsonb({"name": "Ann"}), "order-1001-shipped"),
    ).fetchone()

print(f"queued job {job_id}")
