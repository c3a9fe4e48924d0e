//! A server of feeds that answers as a test says, well or ill, and writes down what it was asked.
//!
//! Each connection has a thread and ends after one answer, so that an answer may last as long as it likes.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

/// What was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// The method.
    pub(crate) method: String,
    /// The path and the query.
    pub(crate) path: String,
    /// The head as it came.
    pub(crate) head: String,
    /// The body as it came.
    pub(crate) body: String,
}

impl Asked {
    /// Returns a header, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        let found = lines.find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim())
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// A status, headers and a body.
    Whole(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Zeros, as many as are read up to two gigabytes.
    Endless,
    /// A byte now and then.
    Drip,
    /// Nothing, while the connection is open.
    Silent,
}

impl Reply {
    /// A document.
    pub(crate) fn json(document: &Value) -> Self {
        Self::Whole(200, Vec::new(), document.to_string().into_bytes())
    }

    /// A status, without a body.
    pub(crate) fn status(status: u16) -> Self {
        Self::Whole(status, Vec::new(), Vec::new())
    }
}

type Script = Arc<Mutex<Box<dyn FnMut(&Asked) -> Reply + Send>>>;

/// The server.
pub(crate) struct Feed {
    address: SocketAddr,
    script: Script,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Feed {
    /// Starts a server that answers so.
    pub(crate) fn start(script: impl FnMut(&Asked) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let script: Script = Arc::new(Mutex::new(Box::new(script)));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let shared = (script.clone(), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (script, asked) = shared.clone();
                std::thread::spawn(move || serve(stream, &script, &asked));
            }
        });
        Self {
            address,
            script,
            asked,
        }
    }

    /// Answers otherwise from now on.
    pub(crate) fn answer(&self, script: impl FnMut(&Asked) -> Reply + Send + 'static) {
        *self.script.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(script);
    }

    /// Answers this from now on, whatever is asked.
    pub(crate) fn always(&self, reply: Reply) {
        self.answer(move |_| reply.clone());
    }

    /// The host and the port, as an operator grants them.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// Returns the address of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns what was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn serve(mut stream: TcpStream, script: &Script, asked: &Mutex<Vec<Asked>>) {
    let Some(one) = read(&mut stream) else {
        return;
    };
    asked
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(one.clone());
    let reply = (script.lock().unwrap_or_else(PoisonError::into_inner))(&one);
    let _ = write(&mut stream, reply);
}

fn read(stream: &mut TcpStream) -> Option<Asked> {
    let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
    let end = loop {
        let count = stream.read(&mut part).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&part[..count]);
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut words = head.split(' ').map(str::to_owned);
    let mut one = Asked {
        method: words.next()?,
        path: words.next()?,
        head,
        body: String::new(),
    };
    let length: usize = one
        .header("content-length")
        .map_or(0, |text| text.parse().unwrap_or(0));
    while bytes.len() < end + length {
        let count = stream.read(&mut part).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&part[..count]);
    }
    one.body = String::from_utf8_lossy(&bytes[end..]).into_owned();
    Some(one)
}

fn write(stream: &mut TcpStream, reply: Reply) -> std::io::Result<()> {
    match reply {
        Reply::Whole(status, headers, body) => {
            let mut head = format!(
                "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {}\r\n",
                body.len()
            );
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            stream.write_all(format!("{head}\r\n").as_bytes())?;
            stream.write_all(&body)
        }
        Reply::Endless => {
            stream.write_all(b"HTTP/1.1 200 x\r\nconnection: close\r\n\r\n")?;
            let zeros = vec![b'0'; 1 << 20];
            for _ in 0..2048 {
                stream.write_all(&zeros)?;
            }
            Ok(())
        }
        Reply::Drip => {
            stream.write_all(b"HTTP/1.1 200 x\r\nconnection: close\r\n\r\n")?;
            for _ in 0..600 {
                stream.write_all(b" ")?;
                std::thread::sleep(Duration::from_millis(100));
            }
            Ok(())
        }
        Reply::Silent => {
            let mut rest = [0; 1];
            stream.read(&mut rest).map(drop)
        }
    }
}
