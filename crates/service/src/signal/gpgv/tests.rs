//! The real program on signatures that `gpg` made (tests/fixtures/openpgp).

use super::*;
use crate::connector::Connectors;
use crate::connector::grants::Grants;
use crate::store::testing::apps_standing;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/openpgp")
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(fixtures().join(name)).unwrap()
}

/// An application whose credentials are the fixtures, and that runs this program.
async fn app(program: Option<&Path>) -> App {
    let mut app = apps_standing().await.into_iter().next().unwrap();
    app.connectors = Connectors::granting(Grants {
        credentials: Some(fixtures()),
        gpgv: program.map(Path::to_owned),
        ..Grants::default()
    });
    app
}

async fn code(app: &App, keys: &str, document: &[u8], beside: &str) -> &'static str {
    let keys = keyring(app, Path::new(keys)).unwrap();
    match verify(app, &keys, document, &file(beside)).await {
        Ok(()) => "good",
        Err(why) => why.code(),
    }
}

#[tokio::test]
async fn a_document_is_good_when_a_pinned_key_that_still_stands_has_signed_it() {
    let app = app(None).await;
    let document = file("advisory.json");
    let mut tampered = document.clone();
    tampered.push(b' ');
    for (keys, document, beside, expected) in [
        ("acme.keys.asc", &document, "acme.sig.asc", "good"),
        ("acme.keys.gpg", &document, "acme.sig.asc", "good"),
        (
            "acme.keys.asc",
            &tampered,
            "acme.sig.asc",
            "signature_invalid",
        ),
        (
            "acme.keys.asc",
            &document,
            "other.sig.asc",
            "signature_of_unknown_key",
        ),
        ("other.keys.asc", &document, "other.sig.asc", "good"),
        (
            "expired.keys.asc",
            &document,
            "expired.sig.asc",
            "signing_key_expired",
        ),
        (
            "revoked.keys.asc",
            &document,
            "revoked.sig.asc",
            "signing_key_revoked",
        ),
        ("acme.keys.asc", &document, "sha1.sig.asc", "signature_weak"),
        (
            "acme.keys.asc",
            &document,
            "message.pgp",
            "signature_invalid",
        ),
        ("acme.keys.asc", &document, "README.md", "signature_invalid"),
    ] {
        assert_eq!(
            code(&app, keys, document, beside).await,
            expected,
            "{keys} {beside}"
        );
    }
    let large = vec![b'x'; 8 << 20];
    assert_eq!(
        code(&app, "acme.keys.asc", &large, "acme.sig.asc").await,
        "signature_invalid"
    );
}

#[tokio::test]
async fn without_the_program_nothing_is_good() {
    let nowhere = app(Some(Path::new("/nowhere/gpgv"))).await;
    let document = file("advisory.json");
    let said = code(&nowhere, "acme.keys.asc", &document, "acme.sig.asc").await;
    assert_eq!(said, "gpgv_missing");
    let unnamed = app(Some(Path::new("no-such-program-as-this"))).await;
    let said = program(&unnamed).unwrap_err().to_string();
    assert!(said.contains("install the package gpgv"), "{said}");
    // No program that may be run, and one that says nothing.
    let readme = fixtures().join("README.md");
    assert!(program(&app(Some(&readme)).await).is_err());
    let mute = app(Some(Path::new("/bin/true"))).await;
    let said = code(&mute, "acme.keys.asc", &document, "acme.sig.asc").await;
    assert_eq!(said, "signature_of_unknown_key");
}

#[tokio::test]
async fn a_program_that_does_not_end_is_killed_and_leaves_nothing() {
    let app = app(None).await;
    let keys = keyring(&app, Path::new("acme.keys.asc")).unwrap();
    let signature = Detached::parse(&file("acme.sig.asc")).unwrap();
    let home = Home::make(&app.ids.token(), &keys, &signature).unwrap();
    let folder = home.0.clone();
    let hung = folder.join("hung");
    std::fs::write(&hung, "#!/bin/sh\nexec tail -f /dev/null\n").unwrap();
    std::fs::set_permissions(&hung, std::fs::Permissions::from_mode(0o700)).unwrap();
    let said = asked(&hung, &home, b"x", Duration::from_millis(50)).await;
    let said = said.unwrap_err().to_string();
    assert!(said.contains("took longer"), "{said}");
    drop(home);
    assert!(!folder.exists());
}

#[tokio::test]
async fn keys_are_named_inside_the_folder_of_credentials_and_are_keys() {
    let app = app(None).await;
    for (name, sentence) in [
        ("/etc/passwd", "inside the folder given with --credentials"),
        ("absent.asc", "cannot be read"),
        ("advisory.json", "neither OpenPGP in letters nor in bytes"),
        ("acme.sig.asc", "neither OpenPGP in letters nor in bytes"),
    ] {
        let said = keyring(&app, Path::new(name)).unwrap_err();
        assert!(said.contains(sentence), "{name}: {said}");
    }
}
