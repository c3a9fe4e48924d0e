//! The ear of a process: PostgreSQL says when the epoch has moved. A hint; whoever misses it asks anyway.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgListener;

use super::{Store, StoreError};

/// How long it may be still before the connection is tried: one that is cut without a word stays open.
const STILL: Duration = Duration::from_secs(30);
/// How long that may take.
const TRY: Duration = Duration::from_secs(5);

/// A connection on which the database speaks.
#[derive(Debug)]
pub struct Listener(PgListener);

impl Store {
    /// Opens an ear; `None` where nobody else could move the epoch.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached.
    pub async fn listen(&self) -> Result<Option<Listener>, StoreError> {
        match &self.0.pools.listening {
            Some(pool) => Listener::open(pool).await.map(Some),
            None => Ok(None),
        }
    }
}

impl Listener {
    async fn open(pool: &PgPool) -> Result<Self, StoreError> {
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen("tidegate_epoch").await?;
        Ok(Self(listener))
    }

    /// Waits until the epoch has moved, or may have while nobody listened.
    ///
    /// # Errors
    ///
    /// When the connection is gone; it is opened anew.
    pub async fn heard(&mut self) -> Result<(), StoreError> {
        loop {
            if let Ok(heard) = tokio::time::timeout(STILL, self.0.try_recv()).await {
                // Nothing heard: the connection broke off, and whatever was said meanwhile is lost.
                return heard.map(|_| ()).map_err(StoreError::from);
            }
            let tried = tokio::time::timeout(TRY, sqlx::query("SELECT 1").execute(&mut self.0));
            match tried.await {
                Ok(answered) => {
                    answered?;
                }
                Err(_) => return Err(StoreError::Unavailable("nobody answers".to_owned())),
            }
        }
    }
}
