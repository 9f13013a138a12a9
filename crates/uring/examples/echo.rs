//! An echo server on one executor: `cargo run --example echo -- 127.0.0.1:7000`.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;

use bytes::Bytes;
use glommio::{LocalExecutorBuilder, Placement};
use rustix::net::SendFlags;
use tidegate_uring::{Config, Fd, Ring};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1);
    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:0"))?;
    // Says what is wrong with this host, where glommio would panic.
    tidegate_uring::probe()?;
    println!("listening on {}", listener.local_addr()?);
    LocalExecutorBuilder::new(Placement::Unbound)
        .make()?
        .run(async {
            let ring = Ring::start(&Config::default())?;
            let mut accept = ring.accept(&Fd::from(OwnedFd::from(listener)));
            loop {
                let socket = Fd::from(accept.next().await?);
                ring.spawn(connection(ring.clone(), socket)).detach();
            }
        })
}

async fn connection(ring: Ring, socket: Fd) {
    if let Err(error) = echo(&ring, &socket).await {
        eprintln!("a connection ended: {error}");
    }
}

async fn echo(ring: &Ring, socket: &Fd) -> io::Result<()> {
    let mut recv = ring.recv(socket);
    while let Some(received) = recv.next().await? {
        let mut data = Bytes::copy_from_slice(&received);
        // Gives the buffer back before the peer is waited for.
        drop(received);
        while !data.is_empty() {
            let sent = ring.send(socket, data.clone(), SendFlags::empty()).await?;
            data = data.split_off(sent);
        }
    }
    Ok(())
}
