//! Which hosts may be asked, and at which addresses.
//!
//! The operator writes `HOST[:PORT]` at start (443 unless said), or `NAME[:PORT]=ADDRESS`. A name leads to
//! public addresses only: what it resolves to is looked at, and exactly that is connected to, so a name
//! that changes its mind between two look-ups gains nothing. An address inside is asked only when it is
//! written itself, as the host or behind the `=`. Link-local ones, where clouds keep their credentials,
//! are never asked. Without TLS only this machine itself is asked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;

use crate::connector::ConfigError;

/// The longest address that is taken, in bytes.
const PLACE_MAX: usize = 8192;
/// The most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

/// A host that may be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Granted {
    /// As a URL writes it: in lower case, IPv6 in brackets.
    host: String,
    port: u16,
    /// Where the name leads, whatever the name service says.
    pinned: Option<IpAddr>,
}

/// All that may be asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach(Vec<Granted>);

/// A place may not be asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReachError {
    /// The address is none.
    #[error(
        "the address must be like `https://host/path`, without a user, a password or a fragment"
    )]
    Place,
    /// It is another host, or another port.
    #[error("`{0}` is not granted: whoever runs this service starts it with --reach {0}")]
    NotGranted(String),
    /// It is an address that nobody can grant.
    #[error("`{0}` is {1}: such an address is never asked")]
    Never(String, &'static str),
    /// It is not this machine, and there is no TLS.
    #[error("`{0}` is asked over https: without it, only 127.0.0.1, [::1] and localhost are")]
    Open(String),
}

/// A name leads to an address that may not be asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{host}` leads to {address}, which is {why}: a name is asked at public addresses only; --reach {host}={address} would ask it there"
)]
pub struct AddressRefused {
    host: String,
    address: IpAddr,
    why: &'static str,
}

/// Reads an address that somebody else wrote.
pub(super) fn place(text: &str) -> Result<Url, ReachError> {
    if text.len() > PLACE_MAX {
        return Err(ReachError::Place);
    }
    let url = Url::parse(text).map_err(|_| ReachError::Place)?;
    let is_plain = matches!(url.scheme(), "http" | "https")
        && url.host_str().is_some()
        && url.username().is_empty()
        && url.password().is_none()
        && url.fragment().is_none();
    if is_plain {
        Ok(url)
    } else {
        Err(ReachError::Place)
    }
}

fn named(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port_or_known_default() {
        None | Some(443) => host.to_owned(),
        Some(port) => format!("{host}:{port}"),
    }
}

/// Reads a host of a URL that is an address.
fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .ok()
}

impl ReachError {
    /// Says that a place is not granted.
    pub(super) fn of(url: &Url) -> Self {
        let address = url.host_str().and_then(literal);
        match address.and_then(why_never) {
            Some(why) => Self::Never(named(url), why),
            None => Self::NotGranted(named(url)),
        }
    }
}

impl Reach {
    /// Reads what the operator granted.
    ///
    /// # Errors
    ///
    /// When one of them is no host, or an address that is never asked.
    pub fn parse(granted: &[String]) -> Result<Self, ConfigError> {
        let read = |text: &String| {
            Granted::parse(text.trim()).map_err(|why| ConfigError(format!("--reach {text}: {why}")))
        };
        granted.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Says whether a place may be asked, as far as its address says.
    ///
    /// # Errors
    ///
    /// When it may not.
    pub fn check(&self, url: &Url) -> Result<(), ReachError> {
        let host = url.host_str().ok_or(ReachError::Place)?;
        let port = url.port_or_known_default().ok_or(ReachError::Place)?;
        if !self
            .0
            .iter()
            .any(|one| one.host == host && one.port == port)
        {
            return Err(ReachError::of(url));
        }
        let is_here =
            host == "localhost" || literal(host).is_some_and(|address| address.is_loopback());
        match url.scheme() {
            "https" => Ok(()),
            "http" if is_here => Ok(()),
            _ => Err(ReachError::Open(named(url))),
        }
    }

    /// Returns where a name was pinned to.
    fn pinned(&self, host: &str) -> Option<IpAddr> {
        self.0
            .iter()
            .filter(|one| one.host == host)
            .find_map(|one| one.pinned)
    }

    /// Returns those addresses of a name that may be asked: all of them, or none.
    fn checked(&self, host: &str, found: &[IpAddr]) -> Result<Vec<IpAddr>, AddressRefused> {
        if let Some(pinned) = self.pinned(host) {
            return Ok(vec![pinned]);
        }
        for address in found {
            let why = match why_not_public(*address) {
                Some(_) if host == "localhost" && address.is_loopback() => None,
                None if host == "localhost" => Some("not this machine"),
                why => why,
            };
            if let Some(why) = why {
                let (host, address) = (host.to_owned(), *address);
                return Err(AddressRefused { host, address, why });
            }
        }
        Ok(found.iter().copied().take(ADDRESSES_MAX).collect())
    }
}

impl Granted {
    fn parse(text: &str) -> Result<Self, String> {
        let form = "it is HOST, HOST:PORT or NAME:PORT=ADDRESS";
        let (place, pinned) = match text.split_once('=') {
            None => (text, None),
            Some((place, address)) => {
                let address: IpAddr = address.trim().parse().map_err(|_| form.to_owned())?;
                (place, Some(address))
            }
        };
        // Read as part of a URL, so that it is written as URLs write it.
        let url = Url::parse(&format!("https://{place}/")).map_err(|_| form.to_owned())?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let is_plain = url.path() == "/" && url.username().is_empty() && url.password().is_none();
        if host.is_empty() || !is_plain || url.query().is_some() || url.fragment().is_some() {
            return Err(form.to_owned());
        }
        if let Some(never) = pinned.or(literal(&host)).and_then(why_never) {
            return Err(format!("an address that is {never} is never asked"));
        }
        if pinned.is_some() && literal(&host).is_some() {
            return Err(form.to_owned());
        }
        Ok(Self {
            host,
            port: url.port_or_known_default().unwrap_or(443),
            pinned,
        })
    }
}

/// Resolves names for the client: what it hands over is connected to, and nothing else.
#[derive(Debug, Clone)]
pub(super) struct Resolver(pub(super) Arc<Reach>);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found: Vec<IpAddr> = match reach.pinned(&host) {
                Some(_) => Vec::new(),
                None => {
                    let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
                    found.map(|one| one.ip()).collect()
                }
            };
            let checked = reach.checked(&host, &found)?;
            let addresses = checked.into_iter().map(|one| SocketAddr::new(one, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

/// The address that is meant by one that holds another.
fn meant(address: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = address else {
        return address;
    };
    let [a, b, c, d, e, f, g, h] = six.segments();
    let embedded = match [a, b, c, d, e, f] {
        // Mapped, compatible (but not `::` and `::1`), and translated.
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => true,
        [0, 0, 0, 0, 0, 0] => g != 0,
        _ => false,
    };
    if !embedded {
        return address;
    }
    let [w, x] = g.to_be_bytes();
    let [y, z] = h.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(w, x, y, z))
}

/// Says what an address is that is never asked, however it is written.
fn why_never(address: IpAddr) -> Option<&'static str> {
    match meant(address) {
        IpAddr::V4(four) => match four.octets() {
            [0, ..] => Some("unspecified"),
            [169, 254, ..] => Some("link-local"),
            [224..=239, ..] => Some("multicast"),
            [240..=255, ..] => Some("reserved"),
            _ => None,
        },
        IpAddr::V6(six) => match six.segments() {
            [0xfe80..=0xfebf, ..] => Some("link-local"),
            [0xff00..=0xffff, ..] => Some("multicast"),
            _ if six == Ipv6Addr::UNSPECIFIED => Some("unspecified"),
            _ => None,
        },
    }
}

/// Says what an address is that is not public; `None`: it is.
fn why_not_public(address: IpAddr) -> Option<&'static str> {
    if let Some(never) = why_never(address) {
        return Some(never);
    }
    match meant(address) {
        IpAddr::V4(four) => match four.octets() {
            [127, ..] => Some("this machine"),
            [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Some("private"),
            [192, 0, 0 | 2, _]
            | [198, 18..=19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
            | [192, 88, 99, _] => Some("reserved"),
            _ => None,
        },
        IpAddr::V6(Ipv6Addr::LOCALHOST) => Some("this machine"),
        IpAddr::V6(six) => match six.segments() {
            [0xfc00..=0xfdff, ..] => Some("private"),
            // Tunnels hold another address, of which nobody knows where it leads.
            [0x2002, ..] | [0x2001, 0..=0x1ff, ..] => Some("a tunnel"),
            [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Some("reserved"),
            [0x2000..=0x3fff, ..] => None,
            _ => Some("reserved"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(granted: &[&str]) -> Reach {
        let granted: Vec<String> = granted.iter().map(|one| (*one).to_owned()).collect();
        Reach::parse(&granted).unwrap()
    }

    fn may(reach: &Reach, url: &str) -> Result<(), ReachError> {
        reach.check(&place(url)?)
    }

    #[test]
    fn only_what_is_written_may_be_asked() {
        let reach = reach(&[
            "Feeds.Example",
            "other.example:8443",
            "127.0.0.1:8000",
            "[::1]:8000",
        ]);
        for url in [
            "https://feeds.example/kev.json",
            "https://FEEDS.example:443/",
            "https://other.example:8443/x?y=1",
            "http://127.0.0.1:8000/",
            "http://0x7f.1:8000/",
            "http://[::1]:8000/",
        ] {
            assert_eq!(may(&reach, url), Ok(()), "{url}");
        }
        for url in [
            "https://feeds.example:8443/",
            "https://other.example/",
            "https://sub.feeds.example/",
            "https://feeds.example./",
            "https://feeds.example.evil.test/",
            "https://127.0.0.1/",
            "http://127.0.0.2:8000/",
            "http://localhost:8000/",
            "http://[::ffff:127.0.0.1]:8000/",
        ] {
            assert!(
                matches!(may(&reach, url), Err(ReachError::NotGranted(_))),
                "{url}"
            );
        }
        assert!(matches!(
            may(&reach, "http://feeds.example:443/"),
            Err(ReachError::Open(_))
        ));
        for url in [
            "ftp://feeds.example/",
            "file:///etc/passwd",
            "https://me@feeds.example/",
            "https://feeds.example@evil.test/",
            "https://feeds.example/#x",
            "nonsense",
        ] {
            assert_eq!(may(&reach, url), Err(ReachError::Place), "{url}");
        }
        for url in [
            "https://169.254.169.254/",
            "https://[fe80::1]/",
            "https://[::ffff:169.254.1.1]/",
        ] {
            assert!(
                matches!(may(&reach, url), Err(ReachError::Never(..))),
                "{url}"
            );
        }
        assert!(may(&Reach::default(), "https://feeds.example/").is_err());
    }

    #[test]
    fn a_grant_is_a_host_and_never_a_link_local_one() {
        for text in [
            "",
            "https://a.example",
            "a.example/x",
            "a b",
            "me@a.example",
            "a.example=",
            "a.example=b",
            "169.254.169.254",
            "[fe80::1]",
            "[::ffff:169.254.169.254]",
            "0.0.0.0",
            "224.0.0.1",
            "a.example=169.254.169.254",
            "10.0.0.1=10.0.0.2",
            "a.example:x",
            "a.example?x",
        ] {
            assert!(Reach::parse(&[text.to_owned()]).is_err(), "{text}");
        }
        for text in [
            "10.0.0.1",
            "a.example:8443=10.1.2.3",
            "localhost:1",
            "[fd00::1]:1",
        ] {
            assert!(Reach::parse(&[text.to_owned()]).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_name_is_asked_at_public_addresses_only() {
        let reach = reach(&["a.example", "inside.example=10.1.2.3", "localhost"]);
        let at = |host: &str, addresses: &[&str]| {
            let found: Vec<IpAddr> = addresses.iter().map(|one| one.parse().unwrap()).collect();
            reach.checked(host, &found).ok()
        };
        for address in ["93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822"] {
            assert!(at("a.example", &[address]).is_some(), "{address}");
        }
        for address in [
            "127.0.0.1",
            "10.0.0.1",
            "172.31.0.1",
            "192.168.1.1",
            "100.100.100.200",
            "169.254.169.254",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "fe80::1",
            "fd00:ec2::254",
            "ff02::1",
            "2002:7f00:1::",
            "2001:0:1::1",
            "2001:db8::1",
            "fec0::1",
        ] {
            assert_eq!(at("a.example", &[address]), None, "{address}");
            assert_eq!(
                at("a.example", &["93.184.216.34", address]),
                None,
                "{address} beside one"
            );
        }
        assert!(at("localhost", &["127.0.0.1", "::1"]).is_some());
        assert_eq!(at("localhost", &["93.184.216.34"]), None);
        assert_eq!(
            at("inside.example", &[]),
            Some(vec!["10.1.2.3".parse().unwrap()])
        );
    }
}
