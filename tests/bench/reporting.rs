//! What others report: a storm of signed messages, and from one signal to silence under full drain.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::asking::{release, until_moving};
use crate::forging::Stream;
use crate::measure::{Times, forget_peak, megabytes};
use crate::report::{Report, Row};
use crate::support::api::{Api, send};
use crate::support::service::Service;
use crate::support::webhooks::{SECRET, Sender, VARIABLE, source};
use crate::world::{World, one_wave};

/// From a signal to silence, in milliseconds.
const SILENCE_MS: f64 = 250.0;
/// From another vendor's signal to its hold while a storm rages, in milliseconds.
const OTHERS_MS: f64 = 1_000.0;
/// How long the whole storm may take, in seconds.
const STORM_SECONDS: f64 = 60.0;
/// The most memory of the service meanwhile, in megabytes.
const STORM_MB: f64 = 512.0;
/// How many messages are under way at once.
const SENDERS: usize = 32;

/// Has the service know the keys of the senders, and three vendors with a target and a source each.
pub(crate) async fn prepare(world: &mut World, stream: &Stream) {
    let (database, token) = (world.database().clone(), world.api().token.clone());
    world.service.stop();
    let host = stream.transmitter.host.as_str();
    let variables = [(VARIABLE, SECRET), ("TIDEGATE_REACH", host)];
    world.service = Service::start_with(&database, &token, &variables);
    let api = world.api();
    for target in ["other", "third"] {
        let target = json!({"name": target, "connector": "sandbox", "config": {}});
        api.post("/v1/targets", target).await.ok();
    }
    facts(api, "third", json!({"vendor": "idp", "tenant": "contoso"})).await;
    stream.source(api).await;
    for (target, name, vendor) in [("box", "siem", "acme"), ("other", "cert", "else")] {
        facts(api, target, json!({"vendor": vendor})).await;
        source(api, name, vendor).await;
    }
}

async fn facts(api: &Api, target: &str, facts: Value) {
    let path = format!("/v1/targets/{target}/facts");
    send(api.request(reqwest::Method::PUT, &path).json(&facts))
        .await
        .ok();
}

/// A high risk of the whole tenant: pauses the target, and people of security let it go.
fn risk() -> String {
    json!({"type": "security.risk_change", "data": {"severity": "high"}}).to_string()
}

/// Reports how long it takes from a signed message until nobody can send any more.
pub(crate) async fn silence(report: &mut Report, world: &mut World, samples: usize) {
    let sender = Sender::new(world.api(), "siem");
    let (mut answered, mut quiet) = (Times::default(), Times::default());
    while quiet.len() < samples {
        let (name, plan, _) = world.plan(one_wave).await;
        world.start(&name, &plan).await;
        let mut moved = 0;
        while quiet.len() < samples {
            let Some(now_moved) = until_moving(world, &name, moved).await else {
                break;
            };
            moved = now_moved;
            let begun = Instant::now();
            let id = format!("quiet-{}", quiet.len());
            assert!(sender.try_send(&id, &risk()).await, "it is admitted");
            answered.push(begun.elapsed());
            let hold = until_held(world.api(), "acme", true).await;
            quiet.push(begun.elapsed());
            release(world, &hold).await;
        }
        world.until_completed(&name).await;
    }
    report.add(Row {
        what: "from signal to silence under drain".to_owned(),
        on: world.on.to_owned(),
        ours: quiet.text(),
        reference: answered.text(),
        ratio: Some(quiet.within(0.99) / answered.within(0.99)),
        budget: format!("p99 ≤ {SILENCE_MS} ms"),
        met: Some(quiet.within(0.99) <= SILENCE_MS),
        note: format!(
            "{samples} signed messages, each while people were moving, until a look over HTTP shows that nobody can send; the reference: until the message was durable and answered"
        ),
        figures: json!({"quiet": quiet.figures(), "answered": answered.figures()}),
        ..Row::default()
    });
}

/// Looks until a pause for a vendor is in force, and quiet if wanted.
pub(crate) async fn until_held(api: &Api, vendor: &str, is_quiet: bool) -> Value {
    let begun = Instant::now();
    loop {
        let holds = api.get("/v1/holds?in_force=true").await.ok();
        let items = holds["items"].as_array().cloned().unwrap_or_default();
        let held = items.into_iter().find(|hold| {
            let reason = hold["reason"].as_str().unwrap_or_default();
            hold["kind"] == "pause"
                && reason.contains(vendor)
                && (!is_quiet || hold["quiesced"] == true)
        });
        if let Some(hold) = held {
            return hold;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{holds:#}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Reports what a storm of messages about one vendor takes, and what it does to another vendor's.
pub(crate) async fn storm(report: &mut Report, world: &mut World, messages: usize) {
    let sender = Sender::new(world.api(), "siem");
    let bare = bare_rate(world.api(), messages / 10).await;
    forget_peak(world.service.pid());
    let raging = Arc::new(AtomicBool::new(true));
    let others = tokio::spawn(others(world.api().clone(), raging.clone()));
    let begun = Instant::now();
    let body = json!({"type": "security.vendor_breach", "data": {"severity": "critical"}});
    let (next, body) = (Arc::new(AtomicUsize::new(0)), body.to_string());
    let senders = (0..SENDERS).map(|_| {
        let (sender, next, body) = (sender.clone(), next.clone(), body.clone());
        tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= messages {
                    return;
                }
                let id = format!("storm-{number}");
                while !sender.try_send(&id, &body).await {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.expect("a sender");
    }
    let seconds = begun.elapsed().as_secs_f64();
    raging.store(false, Ordering::Relaxed);
    let others = others.await.expect("the other vendor");
    let judged = until_counted(world.api(), messages).await + begun.elapsed().as_secs_f64();
    let peak_mb = megabytes(world.service.resident().1);
    let rate = messages as f64 / seconds;
    report.add(Row {
        what: format!("a storm of {messages} signed messages"),
        on: world.on.to_owned(),
        ours: format!("{seconds:.1} s, {rate:.0} a second, peak {peak_mb:.0} MB"),
        reference: format!("{bare:.0} a second"),
        ratio: Some(rate / bare),
        budget: format!("100,000 in {STORM_SECONDS} s, ≤ {STORM_MB} MB"),
        met: Some(rate >= 100_000.0 / STORM_SECONDS && peak_mb <= STORM_MB),
        note: format!(
            "{SENDERS} under way at once, each durable before it is answered; one halt that counts all of them after {judged:.1} s. The reference: the same sender asking whether we are alive"
        ),
        figures: json!({"seconds": seconds, "rate": rate, "bare_rate": bare, "peak_mb": peak_mb, "judged": judged}),
        ..Row::default()
    });
    report.add(Row {
        what: "another vendor's signal held during the storm".to_owned(),
        on: world.on.to_owned(),
        ours: others.text(),
        budget: format!("p99 ≤ {OTHERS_MS} ms"),
        met: Some(others.within(0.99) <= OTHERS_MS),
        note: format!("{} signals, each until its hold is seen", others.len()),
        figures: others.figures(),
        ..Row::default()
    });
}

/// Sends for the other vendor for as long as the storm rages.
async fn others(api: Api, raging: Arc<AtomicBool>) -> Times {
    let sender = Sender::new(&api, "cert");
    let mut times = Times::default();
    while raging.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let id = format!("other-{}", times.len());
        assert!(sender.try_send(&id, &risk()).await, "it is admitted");
        let hold = until_held(&api, "else", false).await;
        times.push(begun.elapsed());
        let id = hold["id"].as_str().expect("an id");
        let path = format!("/v1/holds/{id}/release");
        api.post(&path, json!({"reason": "measured"})).await.ok();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    times
}

/// Waits until one halt counts every message; returns for how many seconds.
async fn until_counted(api: &Api, messages: usize) -> f64 {
    let begun = Instant::now();
    loop {
        let holds = api.get("/v1/holds?in_force=true").await.ok();
        let items = holds["items"].as_array().cloned().unwrap_or_default();
        let halts: Vec<&Value> = items.iter().filter(|hold| hold["kind"] == "halt").collect();
        assert!(halts.len() <= 1, "one hold: {halts:#?}");
        if halts
            .first()
            .is_some_and(|halt| halt["reported"]["signals"] == messages)
        {
            return begun.elapsed().as_secs_f64();
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "{halts:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Returns how many answers a second the same sender gets to a question that needs nothing.
async fn bare_rate(api: &Api, questions: usize) -> f64 {
    let (http, url) = (reqwest::Client::new(), format!("{}/healthz", api.url));
    let begun = Instant::now();
    let askers = (0..SENDERS).map(|_| {
        let (http, url) = (http.clone(), url.clone());
        tokio::spawn(async move {
            for _ in 0..questions / SENDERS {
                let answer = http.get(&url).send().await.expect("an answer");
                assert!(answer.status().is_success());
                answer.bytes().await.expect("a body");
            }
        })
    });
    for asker in askers.collect::<Vec<_>>() {
        asker.await.expect("an asker");
    }
    (questions / SENDERS * SENDERS) as f64 / begun.elapsed().as_secs_f64()
}
