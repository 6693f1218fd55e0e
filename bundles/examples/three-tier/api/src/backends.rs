//! What the API knows of PostgreSQL and Redis. A connection a request: no pool that goes stale when a backend restarts,
//! which it does under every test of this example.

use crate::redis::Redis;
use postgres::{Client, Config, NoTls};
use std::env;
use std::fmt::Display;
use std::fs;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(3);
const WRITES: &str = "three-tier:writes";

/// Each statement can be run again and leaves what is there: an older version of the API works with the result, so that
/// a roll-back needs no migration.
const MIGRATIONS: &str = "
    CREATE TABLE IF NOT EXISTS rows (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        value text NOT NULL,
        at timestamptz NOT NULL DEFAULT now()
    );
    ALTER TABLE rows ADD COLUMN IF NOT EXISTS written_by text;";

pub(crate) struct Backends {
    postgres: Config,
    redis: Redis,
}

/// What `GET /rows` tells.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rows {
    count: i64,
    max_id: i64,
    writes: Option<i64>,
}

/// What `POST /rows` tells.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    id: i64,
    writes: Option<i64>,
}

impl Rows {
    pub(crate) fn to_json(&self) -> String {
        let Self { count, max_id, writes } = self;
        format!("{{\"count\":{count},\"max_id\":{max_id},\"writes\":{}}}\n", number(*writes))
    }
}

impl Row {
    pub(crate) fn to_json(&self) -> String {
        format!("{{\"id\":{},\"writes\":{}}}\n", self.id, number(self.writes))
    }
}

fn number(value: Option<i64>) -> String {
    value.map_or_else(|| "null".to_owned(), |value| value.to_string())
}

impl Backends {
    /// `DATABASE` is a libpq connection string without a password, which is read from the file that
    /// `DATABASE_PASSWORD_FILE` names: a secret in the environment would show in `docker inspect`. `REDIS` is `host:port`.
    pub(crate) fn from_environment() -> Result<Self, String> {
        let need =
            |name: &str| env::var(name).map_err(|_| format!("the environment variable {name} is not set"));
        let mut backends = Self::new(&need("DATABASE")?, &need("REDIS")?)?;
        let file = need("DATABASE_PASSWORD_FILE")?;
        let password =
            fs::read_to_string(&file).map_err(|error| format!("DATABASE_PASSWORD_FILE, {file}: {error}"))?;
        backends.postgres.password(password.trim_end());
        Ok(backends)
    }

    pub(crate) fn new(database: &str, redis: &str) -> Result<Self, String> {
        let mut postgres: Config = database.parse().map_err(|error| format!("DATABASE: {error}"))?;
        postgres.connect_timeout(PATIENCE).options("-c statement_timeout=3s");
        Ok(Self { postgres, redis: Redis::new(redis) })
    }

    /// Brings the tables up to date.
    pub(crate) fn migrate(&self) -> Result<(), String> {
        self.database()?.batch_execute(MIGRATIONS).map_err(postgres_error)
    }

    /// Both backends answer a question.
    pub(crate) fn ping(&self) -> Result<(), String> {
        self.database()?.simple_query("SELECT 1").map_err(postgres_error)?;
        self.redis.ping()
    }

    /// Stores a row; PostgreSQL has flushed it when this returns. A Redis that is away costs the count, not the row.
    pub(crate) fn insert(&self, value: &str, version: &str) -> Result<Row, String> {
        let sql = "INSERT INTO rows (value, written_by) VALUES ($1, $2) RETURNING id";
        let row = self.database()?.query_one(sql, &[&value, &version]).map_err(postgres_error)?;
        let id = row.try_get(0).map_err(postgres_error)?;
        Ok(Row { id, writes: self.redis.increment(WRITES).ok() })
    }

    /// Counts what is stored.
    pub(crate) fn rows(&self) -> Result<Rows, String> {
        let sql = "SELECT count(*), coalesce(max(id), 0) FROM rows";
        let row = self.database()?.query_one(sql, &[]).map_err(postgres_error)?;
        Ok(Rows {
            count: row.try_get(0).map_err(postgres_error)?,
            max_id: row.try_get(1).map_err(postgres_error)?,
            writes: self.redis.get(WRITES).ok(),
        })
    }

    fn database(&self) -> Result<Client, String> {
        self.postgres.connect(NoTls).map_err(postgres_error)
    }
}

fn postgres_error(error: impl Display) -> String {
    format!("PostgreSQL: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_json_and_a_missing_count_is_null() {
        assert_eq!(
            Rows { count: 2, max_id: 3, writes: Some(2) }.to_json(),
            "{\"count\":2,\"max_id\":3,\"writes\":2}\n"
        );
        assert_eq!(Row { id: 3, writes: None }.to_json(), "{\"id\":3,\"writes\":null}\n");
    }

    #[test]
    fn a_connection_string_that_cannot_be_read_is_named() {
        assert!(Backends::new("host", "redis:6379").err().unwrap().starts_with("DATABASE: "));
    }
}
