# One line each; what a target needs, it installs.
.PHONY: help demo run test check fmt lint bench chaos conformance openapi snap docs

help:         ## list the targets
	@grep -hE '^[a-z]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 16

demo:         ## set up everything and move 1.5 million people
	@tests/setup/demo.sh

run:          ## the service on SQLite in ./var
	cargo run --release --bin tidegate -- serve --database sqlite:var/tidegate.db

test:         ## the whole gate, with real databases and SCIM servers
	@tests/setup/test.sh

check:        ## the inner loop: no servers
	cargo fmt --all --check && cargo clippy --workspace --all-targets --quiet -- -D warnings && cargo test --quiet --workspace --lib --bins --test tidy --test stories

fmt:          ## format
	cargo fmt --all

lint:         ## lints only
	cargo clippy --workspace --all-targets -- -D warnings

bench:        ## measure the budgets beside their references
	@tests/setup/bench.sh

chaos:        ## attack the stop with real processes, for hours
	@tests/setup/chaos.sh

conformance:  ## the connectors against other people's servers
	tests/setup/ensure-targets.sh && tests/setup/with-postgres.sh cargo test -p tidegate-service --test it conformance::

openapi:      ## write docs/openapi.json anew
	INSTA_UPDATE=always UPDATE_OPENAPI=1 cargo test --quiet -p tidegate-service openapi

snap:         ## review changed snapshots
	cargo insta review

docs:         ## the API documentation of the crates
	cargo doc --workspace --no-deps
