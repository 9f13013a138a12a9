//! One of everything, on one executor.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use bytes::Bytes;
use glommio::{LocalExecutorBuilder, Placement};
use rustix::net::SendFlags;
use tidegate_uring::{Config, Fd, Ring};

fn run<T>(future: impl Future<Output = T>) -> T {
    LocalExecutorBuilder::new(Placement::Unbound)
        .make()
        .unwrap()
        .run(future)
}

#[test]
fn a_connection_is_accepted_and_echoed() {
    run(async {
        let ring = Ring::start(&Config::default()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"hello").unwrap();
            let mut back = [0; 5];
            stream.read_exact(&mut back).unwrap();
            back
        });
        let mut accept = ring.accept(&Fd::from(OwnedFd::from(listener)));
        let socket = Fd::from(accept.next().await.unwrap());
        let mut recv = ring.recv(&socket);
        let data = recv.next().await.unwrap().unwrap();
        let sent = ring
            .send(&socket, Bytes::copy_from_slice(&data), SendFlags::empty())
            .await;
        assert_eq!(sent.unwrap(), 5);
        drop(data);
        assert!(recv.next().await.unwrap().is_none());
        assert_eq!(&client.join().unwrap(), b"hello");
    });
}
