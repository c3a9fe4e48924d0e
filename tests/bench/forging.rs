//! What forgeries cost others: tokens that look right and are signed by an unknown key, a thousand a second, and how
//! long a genuine one takes to hold meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::MissedTickBehavior;

use crate::measure::Times;
use crate::report::{Report, Row};
use crate::reporting::until_held;
use crate::support::api::Api;
use crate::support::transmitter::{AUDIENCE, ISSUER, Signer, Transmitter, risk};
use crate::world::World;

/// From a genuine token to its hold beside forgeries, in milliseconds.
const HOLD_MS: f64 = 250.0;
/// Forgeries a second.
const RATE: usize = 1_000;
/// How many forgers there are; each waits for its answer and makes up for what it missed.
const FORGERS: usize = 10;
/// What the stream is about.
const VENDOR: &str = "idp";

/// A stream of tokens, its transmitter, and whoever has the name of its key and not the key.
pub(crate) struct Stream {
    pub(crate) transmitter: Transmitter,
    signer: Signer,
    forger: Signer,
}

impl Stream {
    /// Starts one.
    pub(crate) async fn start() -> Self {
        let (signer, forger) = (Signer::new("k1"), Signer::new("k1"));
        let transmitter = Transmitter::start(&[&signer]).await;
        Self {
            transmitter,
            signer,
            forger,
        }
    }

    /// Creates the source.
    pub(crate) async fn source(&self, api: &Api) {
        let stream = json!({
            "issuer": ISSUER, "audience": [AUDIENCE], "jwks_url": format!("{}/keys", self.transmitter.url),
        });
        let config = json!({"vendor": VENDOR, "stream": stream});
        let source = json!({"name": "okta", "profile": "security_events", "config": config});
        api.post("/v1/sources", source).await.ok();
    }

    /// Sends genuine tokens until told to end; returns how long each took to hold.
    async fn genuine(&self, api: &Api, name: &str, end: impl Fn(usize) -> bool) -> Times {
        let http = reqwest::Client::new();
        let mut times = Times::default();
        while !end(times.len()) {
            let token = self
                .signer
                .token(&risk(&format!("{name}-{}", times.len()), "HIGH", 0));
            let begun = Instant::now();
            assert_eq!(push(&http, api, token).await, 202, "it is admitted");
            let hold = until_held(api, VENDOR, false).await;
            times.push(begun.elapsed());
            let id = hold["id"].as_str().expect("an id");
            let path = format!("/v1/holds/{id}/release");
            api.post(&path, json!({"reason": "measured"})).await.ok();
        }
        times
    }
}

async fn push(http: &reqwest::Client, api: &Api, token: String) -> u16 {
    let url = format!("{}/v1/sources/okta/events", api.url);
    let request = http
        .post(url)
        .header("content-type", "application/secevent+jwt");
    let answer = request.body(token).send().await.expect("an answer");
    answer.status().as_u16()
}

/// Reports how long a genuine token takes to hold beside so many forgeries, and beside none.
pub(crate) async fn forgeries(report: &mut Report, world: &World, stream: &Stream, count: usize) {
    let api = world.api();
    let samples = count / 100;
    let calm = stream.genuine(api, "calm", |done| done >= samples).await;
    let before = admitted(api).await;
    let raging = Arc::new(AtomicBool::new(true));
    let flood = flood(api.clone(), &stream.forger, count, raging.clone());
    let genuine = stream.genuine(api, "beside", |_| !raging.load(Ordering::Relaxed));
    let (seconds, genuine) = tokio::join!(flood, genuine);
    // Every signal and every hold is of a genuine one, and each forgery was counted.
    let stored = admitted(api).await - before - genuine.len();
    let held = api.get("/v1/holds?in_force=true").await.ok();
    let held = held["items"].as_array().map_or(0, Vec::len);
    let refused = refused(api).await;
    let is_clean = stored == 0 && held == 0 && refused == count;
    report.add(Row {
        what: format!("a genuine token held beside {count} forged ones"),
        on: world.on.to_owned(),
        ours: genuine.text(),
        reference: calm.text(),
        ratio: Some(genuine.within(0.99) / calm.within(0.99)),
        budget: format!("p99 ≤ {HOLD_MS} ms"),
        met: Some(genuine.within(0.99) <= HOLD_MS),
        note: format!(
            "{} genuine tokens, each until its hold is seen, beside {:.0} forgeries a second of {RATE} wanted (RS256 by an unknown key of a known name); the reference: beside none",
            genuine.len(),
            count as f64 / seconds
        ),
        figures: json!({"beside": genuine.figures(), "calm": calm.figures(), "seconds": seconds}),
        ..Row::default()
    });
    report.add(Row {
        what: "forged tokens stored or holding anything".to_owned(),
        on: world.on.to_owned(),
        ours: format!("{stored} stored, {held} held, {refused} refused and counted"),
        budget: "0".to_owned(),
        met: Some(is_clean),
        promised: true,
        figures: json!({"stored": stored, "held": held, "refused": refused}),
        ..Row::default()
    });
}

/// Sends forgeries at their rate; returns for how many seconds.
async fn flood(api: Api, forger: &Signer, count: usize, raging: Arc<AtomicBool>) -> f64 {
    let forged = forger.token(&risk("forged", "HIGH", 0));
    let begun = Instant::now();
    let forgers = (0..FORGERS).map(|_| {
        let (api, forged) = (api.clone(), forged.clone());
        tokio::spawn(async move {
            let http = reqwest::Client::new();
            let pause = Duration::from_secs(1) * FORGERS as u32 / RATE as u32;
            let mut ticks = tokio::time::interval(pause);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            for _ in 0..count / FORGERS {
                ticks.tick().await;
                assert_eq!(push(&http, &api, forged.clone()).await, 400);
            }
        })
    });
    for forger in forgers.collect::<Vec<_>>() {
        forger.await.expect("a forger");
    }
    raging.store(false, Ordering::Relaxed);
    begun.elapsed().as_secs_f64()
}

/// Returns how many signals of the stream are kept.
async fn admitted(api: &Api) -> usize {
    let (mut count, mut path) = (0, "/v1/signals?limit=1000".to_owned());
    loop {
        let page = api.get(&path).await.ok();
        let items = page["items"].as_array().cloned().unwrap_or_default();
        let ours = |one: &&serde_json::Value| one["signal"]["source"] == "okta";
        count += items.iter().filter(ours).count();
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/signals?limit=1000&cursor={cursor}"),
            None => return count,
        }
    }
}

/// Returns how many were refused as forged.
async fn refused(api: &Api) -> usize {
    let metrics = api.get("/metrics").await.text;
    let label = "tidegate_source_refused_total{source=\"okta\",code=\"authentication_failed\"} ";
    let line = metrics.lines().find_map(|line| line.strip_prefix(label));
    line.map_or(0, |count| count.parse().expect("a number"))
}
