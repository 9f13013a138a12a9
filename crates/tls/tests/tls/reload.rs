//! Files that change under a running acceptor.

use std::fs;
use std::os::unix::fs::symlink;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidegate_tls::{Acceptor, CertificateFiles, Missing, Settings};

use crate::kit::{Authority, ClientSettings, Kind, client_config, connect, key_pair, shake};

fn served(acceptor: &Acceptor, authority: &Authority) -> Vec<u8> {
    let config = client_config(authority, ClientSettings::default());
    let mut client = connect(&config, "localhost");
    shake(acceptor, &mut client).unwrap();
    client.peer_certificates().unwrap()[0].to_vec()
}

#[test]
fn a_reload_swaps_and_a_broken_one_keeps_the_old() {
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"], Kind::Ecdsa);
    let acceptor = Acceptor::new(Settings::new(vec![files.clone()])).unwrap();
    let other_core = acceptor.clone();
    let first = served(&acceptor, &authority);
    assert!(!acceptor.changed());

    authority.issue("server", &["localhost"], Kind::Ecdsa);
    assert!(acceptor.changed());
    assert_eq!(served(&other_core, &authority), first);
    acceptor.reload().unwrap();
    assert!(!acceptor.changed() && !other_core.changed());
    let second = served(&other_core, &authority);
    assert_ne!(second, first);

    // Half of a pair: reported once, not at every check.
    fs::write(&files.key, "").unwrap();
    assert!(acceptor.changed());
    let error = acceptor.reload().unwrap_err().to_string();
    assert!(error.ends_with("server.key: is empty"), "{error}");
    assert!(!acceptor.changed());
    assert_eq!(served(&acceptor, &authority), second);

    fs::remove_file(&files.key).unwrap();
    assert!(acceptor.changed());
    acceptor.reload().unwrap_err();
    assert!(!acceptor.changed());

    authority.issue("server", &["localhost"], Kind::Ecdsa);
    assert!(acceptor.changed());
    acceptor.reload().unwrap();
    assert_ne!(served(&acceptor, &authority), second);
}

#[test]
fn a_symlink_swapped_as_kubernetes_does_it() {
    let authority = Authority::new();
    for version in ["1", "2"] {
        fs::create_dir(authority.path(version)).unwrap();
        authority.issue(&format!("{version}/tls"), &["localhost"], Kind::Ecdsa);
    }
    symlink("1", authority.path("..data")).unwrap();
    symlink("..data/tls.pem", authority.path("tls.pem")).unwrap();
    symlink("..data/tls.key", authority.path("tls.key")).unwrap();
    let files = CertificateFiles {
        certificate: authority.path("tls.pem"),
        key: authority.path("tls.key"),
    };
    let acceptor = Acceptor::new(Settings::new(vec![files])).unwrap();
    let first = served(&acceptor, &authority);
    assert!(!acceptor.changed());

    symlink("2", authority.path("..data_tmp")).unwrap();
    fs::rename(authority.path("..data_tmp"), authority.path("..data")).unwrap();
    assert!(acceptor.changed());
    acceptor.reload().unwrap();
    assert_ne!(served(&acceptor, &authority), first);
}

#[test]
fn a_ticket_does_not_outlive_the_authorities_it_was_given_under() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let server = authority.issue("server", &["localhost"], Kind::Ecdsa);
    let identity = authority.issue("client", &["client"], Kind::Ecdsa);
    let authorities = authority.file();
    let mut settings = Settings::new(vec![server]);
    settings.client_authentication = tidegate_tls::ClientAuthentication::Require {
        authorities: authorities.clone(),
    };
    let acceptor = Acceptor::new(settings).unwrap();
    let settings = ClientSettings {
        identity: Some(identity),
        ..ClientSettings::default()
    };
    let config = client_config(&authority, settings);
    for resumed in [false, true] {
        let handshake = shake(&acceptor, &mut connect(&config, "localhost")).unwrap();
        assert_eq!(handshake.connected().unwrap().resumed, resumed);
    }
    fs::copy(stranger.file(), &authorities).unwrap();
    acceptor.reload().unwrap();
    assert!(shake(&acceptor, &mut connect(&config, "localhost")).is_err());
}

#[test]
fn a_certificate_that_is_not_valid_does_not_replace_one_that_is() {
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"], Kind::Ecdsa);
    let renew = |from: i32, to: i32| {
        let key = key_pair(Kind::Ecdsa);
        let pem = authority.sign_with(&["localhost"], &key, |params| {
            params.not_before = rcgen::date_time_ymd(from, 1, 1);
            params.not_after = rcgen::date_time_ymd(to, 1, 1);
        });
        authority.write("server.pem", &pem);
        authority.write("server.key", &key.serialize_pem());
    };
    let first = {
        renew(2000, 2100);
        let acceptor = Acceptor::new(Settings::new(vec![files.clone()])).unwrap();
        let first = served(&acceptor, &authority);
        for (from, to) in [(2000, 2001), (2099, 2100)] {
            renew(from, to);
            assert!(acceptor.changed());
            acceptor.reload().unwrap();
            assert_eq!(served(&acceptor, &authority), first);
            let problem = acceptor.problems()[0].to_string();
            assert!(problem.ends_with("is valid and stays"), "{problem}");
            assert!(!acceptor.changed());
        }
        renew(2000, 2100);
        acceptor.reload().unwrap();
        assert_ne!(served(&acceptor, &authority), first);
        assert!(acceptor.problems().is_empty());
        first
    };
    // Where neither is, the newer one.
    renew(2000, 2001);
    let acceptor = Acceptor::new(Settings::new(vec![files])).unwrap();
    renew(2000, 2002);
    acceptor.reload().unwrap();
    let problem = acceptor.problems()[0].to_string();
    assert!(
        problem.contains("expired on Jan  1 00:00:00 2002"),
        "{problem}"
    );
    renew(2000, 2100);
    acceptor.reload().unwrap();
    assert_ne!(served(&acceptor, &authority), first);
}

#[test]
fn a_renewal_replaces_the_old_certificate_once_it_is_valid() {
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"], Kind::Ecdsa);
    let acceptor = Acceptor::new(Settings::new(vec![files])).unwrap();
    let first = served(&acceptor, &authority);
    let key = key_pair(Kind::Ecdsa);
    let pem = authority.sign_with(&["localhost"], &key, |params| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + now + Duration::from_secs(4);
    });
    authority.write("server.pem", &pem);
    authority.write("server.key", &key.serialize_pem());
    acceptor.reload().unwrap();
    assert_eq!(served(&acceptor, &authority), first);
    let begin = Instant::now();
    while !acceptor.changed() {
        assert!(
            begin.elapsed() < Duration::from_mins(1),
            "it stays as it is"
        );
        thread::sleep(Duration::from_millis(100));
    }
    acceptor.reload().unwrap();
    assert_ne!(served(&acceptor, &authority), first);
}

#[test]
fn a_missing_certificate_can_be_left_out_until_it_exists() {
    let authority = Authority::new();
    let there = authority.issue("there", &["localhost"], Kind::Ecdsa);
    let late = authority.issue("late", &["late.test"], Kind::Ecdsa);
    let keep = |files: &CertificateFiles| fs::read(&files.key).unwrap();
    let keys = [keep(&there), keep(&late)];
    fs::remove_file(&late.key).unwrap();
    fs::remove_file(&there.key).unwrap();
    let mut settings = Settings::new(vec![there.clone(), late.clone()]);
    Acceptor::new(settings.clone()).unwrap_err();
    settings.missing = Missing::LeaveOut;
    let acceptor = Acceptor::new(settings).unwrap();
    assert!(!acceptor.is_ready());
    assert_eq!(acceptor.problems().len(), 2);
    let config = client_config(&authority, ClientSettings::default());
    assert!(shake(&acceptor, &mut connect(&config, "localhost")).is_err());

    fs::write(&there.key, &keys[0]).unwrap();
    assert!(acceptor.changed());
    acceptor.reload().unwrap();
    assert!(acceptor.is_ready());
    served(&acceptor, &authority);
    let problem = acceptor.problems()[0].to_string();
    assert!(problem.contains("late.key: cannot be read"), "{problem}");

    // One that was served stays when its files go.
    fs::remove_file(&there.key).unwrap();
    fs::write(&late.key, &keys[1]).unwrap();
    acceptor.reload().unwrap();
    assert_eq!(acceptor.certificates().iter().count(), 2);
    served(&acceptor, &authority);
}
