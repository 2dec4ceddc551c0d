# The commands of a newcomer and of the pipeline; `make` alone lists them.

CARGO ?= cargo

.PHONY: help demo prove test check build programs tools

help:
	@echo "make demo    see the whole product work on this machine, in under a minute once it is built"
	@echo "make prove   break everything on purpose, and count, in six minutes; then fuzz, twice as long"
	@echo "make test    unit, property and integration tests on a real Postgres"
	@echo "make check   format, lints, docs, dependencies, and the checked queries' data"

build:
	$(CARGO) build

# The checked queries are read from the migrations on this machine's own Postgres programs.
programs:
	@.ci/postgres --programs

demo: build
	@[ -n "$$DATABASE_URL" ] || .ci/postgres
	$(CARGO) run --quiet -- demo

prove: build programs
	$(CARGO) run --quiet -- prove
	.ci/fuzz

test:
	@[ -n "$$TEST_DATABASE_URL" ] || .ci/postgres
	$(CARGO) test

check: programs tools
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --quiet
	.ci/deny
	.ci/sqlx --check

tools:
	@command -v cargo-deny >/dev/null || $(CARGO) install cargo-deny --locked --quiet
