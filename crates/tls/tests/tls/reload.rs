//! Files that change under a running acceptor.

use std::fs;
use std::os::unix::fs::symlink;

use tidegate_tls::{Acceptor, CertificateFiles, Settings};

use crate::kit::{Authority, ClientSettings, Kind, client_config, connect, shake};

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

    // Half of a pair: told once, not at every look.
    fs::write(&files.key, "").unwrap();
    assert!(acceptor.changed());
    let error = acceptor.reload().unwrap_err().to_string();
    assert!(error.ends_with("server.key: has no private key"), "{error}");
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
