//! The fetcher against servers that mean it ill.

use std::convert::Infallible;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const MAX: usize = 1 << 20;

/// Starts a server that reads one request of each connection, and does as it is told; returns where it is.
async fn server<F, Fut>(answer: F) -> SocketAddr
where
    F: Fn(String, TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = std::io::Result<()>> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 4096];
            let read = stream.read(&mut head).await.unwrap_or(0);
            head.truncate(read);
            let _ = answer(String::from_utf8_lossy(&head).into_owned(), stream).await;
        }
    };
    background(serving);
    address
}

/// Starts a server that answers with the text of the first of these words that is asked for, and fails at
/// anything else; returns its host and port.
pub(crate) async fn serving(pages: Vec<(&'static str, String)>) -> String {
    let address = server(move |head, mut stream| {
        let page = pages.iter().find(|(word, _)| head.contains(word));
        let (status, text) = page.map_or((500, ""), |(_, text)| (200, text.as_str()));
        let length = text.len();
        let head = format!("HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {length}");
        let answer = format!("{head}\r\n\r\n{text}");
        async move { stream.write_all(answer.as_bytes()).await }
    })
    .await;
    address.to_string()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a server of a test ends with the test"
)]
fn background(serving: impl Future<Output = Infallible> + Send + 'static) {
    tokio::spawn(serving);
}

fn granting(reach: &[String]) -> Fetcher {
    let bounds = Bounds {
        total: Duration::from_secs(3),
        stretch: Duration::from_millis(300),
        progress_min: 1024,
    };
    Fetcher::granting(reach, bounds).unwrap()
}

async fn get(address: SocketAddr) -> Result<Vec<u8>, FetchError> {
    let fetcher = granting(&[address.to_string()]);
    let url = fetcher.may(&format!("http://{address}/feed")).unwrap();
    fetcher.ask(Ask::get(url, "*/*", MAX)).await?.ok()
}

#[tokio::test]
async fn what_is_granted_is_fetched_with_its_proof() {
    let address = server(|head, mut stream| async move {
        let is_ours = head.contains("authorization: Basic bWU6aHVudGVyMg==")
            && head.contains("accept-encoding: gzip");
        let status = if is_ours { "200 OK" } else { "401 No" };
        let text = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\nhi");
        stream.write_all(text.as_bytes()).await
    })
    .await;
    let fetcher = granting(&[address.to_string()]);
    let url = fetcher.may(&format!("http://{address}/")).unwrap();
    let mut ask = Ask::get(url, "*/*", MAX);
    let refused = fetcher.ask(ask.clone()).await.unwrap().ok();
    assert!(matches!(
        refused,
        Err(FetchError::Status { status: 401, .. })
    ));
    ask.proof = Proof::Basic("me".to_owned(), "hunter2".to_owned());
    assert!(
        !format!("{ask:?}").contains("hunter2"),
        "a proof is never shown"
    );
    assert_eq!(fetcher.ask(ask).await.unwrap().ok().unwrap(), b"hi");
}

#[tokio::test]
async fn a_body_that_never_ends_is_left() {
    for head in ["content-length: 2147483648", "x: y"] {
        let address = server(move |_, mut stream| async move {
            stream
                .write_all(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n").as_bytes())
                .await?;
            loop {
                stream.write_all(&[0; 65_536]).await?;
            }
        })
        .await;
        assert_eq!(get(address).await, Err(FetchError::TooLarge { max: MAX }));
    }
}

#[tokio::test]
async fn whoever_sends_a_byte_now_and_then_is_left() {
    let address = server(|_, mut stream| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
        loop {
            stream.write_all(b" ").await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(matches!(
        get(address).await,
        Err(FetchError::Stalled { .. })
    ));
    let silent = server(|_, stream| async move {
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop(stream);
        Ok(())
    })
    .await;
    assert_eq!(get(silent).await, Err(FetchError::Slow { seconds: 3 }));
}

#[tokio::test]
async fn nobody_is_followed_elsewhere() {
    let address = server(|_, mut stream| async move {
        stream.write_all(b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/latest\r\ncontent-length: 0\r\n\r\n").await
    })
    .await;
    let error = get(address).await.unwrap_err();
    assert!(
        error.to_string().contains("http://169.254.169.254/latest"),
        "{error}"
    );
}

#[tokio::test]
async fn a_name_that_leads_inside_is_not_connected_to() {
    let address =
        server(|_, mut stream| async move { stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhi").await })
            .await;
    let port = address.port();
    // Resolvable here without a name service, and not a name that was granted as this machine.
    let name = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let name = name.trim();
    if name != "localhost" && tokio::net::lookup_host((name, port)).await.is_ok() {
        let fetcher = granting(&[format!("{name}:{port}")]);
        let url = Url::parse(&format!("https://{name}:{port}/")).unwrap();
        let error = fetcher.ask(Ask::get(url, "*/*", MAX)).await.unwrap_err();
        let sentence = error.to_string();
        assert!(matches!(error, FetchError::Address(_)), "{sentence}");
        assert!(sentence.contains(&format!("--reach {name}=")), "{sentence}");
    }
    let fetcher = granting(&[format!("localhost:{port}")]);
    let url = Url::parse(&format!("http://localhost:{port}/")).unwrap();
    assert_eq!(
        fetcher.ask(Ask::get(url, "*/*", MAX)).await.unwrap().body,
        b"hi"
    );
    let not_granted = Url::parse(&format!("http://{address}/")).unwrap();
    let error = fetcher
        .ask(Ask::get(not_granted, "*/*", MAX))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("--reach"), "{error}");
}
