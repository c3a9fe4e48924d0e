//! Bytes on a socket, for what no well-behaved client sends: half a request, then nothing.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::api::Api;

/// A connection on which a test says exactly what it wants.
#[derive(Debug)]
pub(crate) struct Wire(TcpStream);

impl Wire {
    /// Connects, and writes the head of a request with the client's token and these more lines.
    pub(crate) async fn begin(api: &Api, first_line: &str, lines: &[String]) -> Self {
        let address = api.url.trim_start_matches("http://");
        let stream = TcpStream::connect(address).await.expect("a connection");
        let mut wire = Self(stream);
        let mut head = format!("{first_line} HTTP/1.1\r\nhost: {address}\r\n");
        head.push_str(&format!("authorization: Bearer {}\r\n", api.token));
        for line in lines {
            head.push_str(&format!("{line}\r\n"));
        }
        wire.write(format!("{head}\r\n").as_bytes()).await;
        wire
    }

    /// Writes bytes.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("the bytes are taken");
    }

    /// Reads what comes until the other side closes, or for this long.
    pub(crate) async fn read_for(&mut self, time: Duration) -> String {
        let mut found = Vec::new();
        let reading = async {
            let mut part = [0; 4096];
            while let Ok(read) = self.0.read(&mut part).await {
                if read == 0 {
                    break;
                }
                found.extend_from_slice(part.get(..read).unwrap_or_default());
            }
        };
        let _ = tokio::time::timeout(time, reading).await;
        String::from_utf8_lossy(&found).into_owned()
    }

    /// Reads until a text has come, for at most ten seconds; returns everything that came.
    pub(crate) async fn read_until(&mut self, wanted: &str) -> String {
        let mut found = String::new();
        let reading = async {
            let mut part = [0; 4096];
            while !found.contains(wanted) {
                let read = self.0.read(&mut part).await.expect("an open connection");
                assert!(read > 0, "closed before `{wanted}` came: {found}");
                found.push_str(&String::from_utf8_lossy(part.get(..read).unwrap_or(&[])));
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(10), reading).await;
        assert!(in_time.is_ok(), "`{wanted}` did not come: {found}");
        found
    }
}
