//! A node in this process, through its sockets, with an independent client.

#![cfg(feature = "io")]
#![allow(unused_crate_dependencies)]

use std::net::SocketAddr;
use std::path::Path;

use ringraft::config::{Address, NodeConfig};
use ringraft::runtime::Node;
use ringraft::wire::proto;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;

#[test]
fn a_command_is_answered() {
    let data = tempfile::tempdir().expect("a directory");
    let node = Node::start(&config(data.path())).expect("starts");
    run(async {
        let mut client = client(node.api).await;
        let path = "/atomix.multiraft.counter.v1.Counter/Increment";
        let request = proto::counter::v1::IncrementRequest {
            headers: Some(headers(1, 1, 1, 1)),
            input: Some(proto::counter::v1::IncrementInput { delta: 1 }),
        };
        let response: proto::counter::v1::IncrementResponse =
            call(&mut client, path, request).await.expect("answered");
        assert_eq!(response.output.expect("set").value, 1);
    });
    node.stop();
}

fn config(data: &Path) -> NodeConfig {
    let here = Address { host: "127.0.0.1".to_owned(), port: 0 };
    let mut config = NodeConfig {
        data_dir: data.to_owned(),
        listen: here.clone(),
        peer_listen: here,
        shards: 1,
        ..NodeConfig::default()
    };
    config.cluster.partitions = 2;
    config
}

async fn client(api: SocketAddr) -> tonic::client::Grpc<Channel> {
    let endpoint = Channel::from_shared(format!("http://{api}")).expect("an address");
    tonic::client::Grpc::new(endpoint.connect().await.expect("connects"))
}

async fn call<Q, A>(
    client: &mut tonic::client::Grpc<Channel>,
    path: &'static str,
    request: Q,
) -> Result<A, tonic::Status>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    client.ready().await.expect("connected");
    let codec = tonic_prost::ProstCodec::<Q, A>::default();
    let path = PathAndQuery::from_static(path);
    Ok(client.unary(tonic::Request::new(request), path, codec).await?.into_inner())
}

fn headers(
    partition_id: u32,
    session_id: u64,
    primitive_id: u64,
    sequence_num: u64,
) -> proto::v1::CommandRequestHeaders {
    let partition = Some(proto::v1::PartitionRequestHeaders { partition_id });
    let session = Some(proto::v1::SessionRequestHeaders { partition, session_id });
    let session = Some(proto::v1::PrimitiveRequestHeaders { session, primitive_id });
    let operation = Some(proto::v1::OperationRequestHeaders { session });
    proto::v1::CommandRequestHeaders { operation, sequence_num }
}

fn run<F: Future>(work: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work)
}
