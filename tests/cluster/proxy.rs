//! The peer ports of a cluster behind proxies that can be cut, each way by itself.
//!
//! A link carries one way and begins with who dialled, so a proxy knows which way it is. A cut way
//! holds what it carries, as a network that loses packets does, and goes on with it when it is
//! mended.

use std::collections::BTreeSet;

use ringraft::wire::hello::{HEAD_BYTES, Hello, body_bytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::harness::ports;

/// Ways that are cut: from one node to another.
type Cuts = BTreeSet<(u32, u32)>;

/// All proxies of a cluster.
pub struct Proxies {
    cuts: watch::Sender<Cuts>,
}

impl Proxies {
    pub fn new() -> Proxies {
        Proxies { cuts: watch::channel(Cuts::new()).0 }
    }

    /// Stands before the peer port of `node`; the address that others are to use.
    pub async fn before(&self, node: u32, peer: String) -> String {
        let listener = TcpListener::bind(ports::free(node)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let cuts = self.cuts.subscribe();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(carry(socket, peer.clone(), node, cuts.clone()));
            }
        });
        address
    }

    pub fn cut(&self, ways: impl IntoIterator<Item = (u32, u32)>) {
        self.cuts.send_modify(|cuts| cuts.extend(ways));
    }

    pub fn mend(&self) {
        self.cuts.send_modify(Cuts::clear);
    }
}

async fn carry(
    mut dialled: TcpStream,
    peer: String,
    to: u32,
    mut cuts: watch::Receiver<Cuts>,
) -> std::io::Result<()> {
    let mut head = [0; HEAD_BYTES];
    dialled.read_exact(&mut head).await?;
    let mut body = vec![0; body_bytes(&head).expect("a greeting")];
    dialled.read_exact(&mut body).await?;
    let from = Hello::decode(&head, &body).expect("a greeting").speaker.node.0;
    let mut node = TcpStream::connect(peer).await?;
    let whole = |cuts: &Cuts| !cuts.contains(&(from, to));
    let _ = cuts.wait_for(whole).await;
    node.write_all(&head).await?;
    node.write_all(&body).await?;
    let (mut there, mut back) = (vec![0; 16 << 10], vec![0; 16 << 10]);
    loop {
        tokio::select! {
            read = dialled.read(&mut there) => match read? {
                0 => return Ok(()),
                octets => {
                    let _ = cuts.wait_for(whole).await;
                    node.write_all(&there[..octets]).await?;
                }
            },
            read = node.read(&mut back) => match read? {
                0 => return Ok(()),
                octets => dialled.write_all(&back[..octets]).await?,
            },
        }
    }
}
