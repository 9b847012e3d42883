//! What ordinary gRPC tools ask of any server, asked of a real node by clients that are not ours:
//! whether it serves, and what.
#![cfg(feature = "io")]
#![allow(clippy::unwrap_used)]

mod harness;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use harness::caller::{Caller, Chat, Heard, SOON, next};
use harness::calls::{add, framed, raw, timeout};
use prost::Message;
use prost_types::FileDescriptorProto;
use ringraft::edge::method::SERVICES;
use ringraft::wire::health::health_check_response::ServingStatus;
use ringraft::wire::health::*;
use ringraft::wire::reflection::server_reflection_request::MessageRequest;
use ringraft::wire::reflection::server_reflection_response::MessageResponse;
use ringraft::wire::reflection::*;
use tonic::{Code, Status};

const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";
const LIST: &str = "/grpc.health.v1.Health/List";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const REFLECTION_ALPHA: &str = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
const LONG: Duration = Duration::from_secs(60);

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

async fn check(caller: &Caller, service: &str) -> Result<ServingStatus, Status> {
    let answer = caller.unary::<_, HealthCheckResponse>(CHECK, of(service)).await?;
    Ok(answer.into_inner().status())
}

fn asks(request: MessageRequest) -> ServerReflectionRequest {
    ServerReflectionRequest { host: String::new(), message_request: Some(request) }
}

type Reflection = Chat<ServerReflectionRequest, ServerReflectionResponse>;

async fn asked(chat: &mut Reflection, request: MessageRequest) -> MessageResponse {
    let request = asks(request);
    chat.say(request.clone()).await;
    let answer = next(&mut chat.heard).await.expect("no error").expect("an answer");
    assert_eq!(answer.original_request, Some(request));
    answer.message_response.expect("one of them")
}

async fn listed(chat: &mut Reflection) -> Vec<String> {
    match asked(chat, MessageRequest::ListServices("*".to_owned())).await {
        MessageResponse::ListServicesResponse(list) => {
            list.service.into_iter().map(|service| service.name).collect()
        }
        other => panic!("no list: {other:?}"),
    }
}

fn files(answer: MessageResponse) -> Vec<FileDescriptorProto> {
    let MessageResponse::FileDescriptorResponse(files) = answer else {
        panic!("no files: {answer:?}")
    };
    let files = files.file_descriptor_proto.iter();
    files.map(|file| FileDescriptorProto::decode(&file[..]).expect("a descriptor")).collect()
}

async fn symbol(chat: &mut Reflection, name: &str) -> Vec<FileDescriptorProto> {
    files(asked(chat, MessageRequest::FileContainingSymbol(name.to_owned())).await)
}

#[tokio::test]
async fn every_service_is_serving_and_a_stranger_is_not_found() {
    if !harness::possible() {
        return;
    }
    let caller = Caller::to(harness::shared()).await;
    let list: HealthListResponse =
        caller.unary(LIST, HealthListRequest {}).await.expect("a list").into_inner();
    assert_eq!(list.statuses.len(), SERVICES.len() + 1);
    for name in SERVICES.iter().map(|service| service.name).chain([""]) {
        assert_eq!(check(&caller, name).await.expect("it is served"), ServingStatus::Serving);
        assert_eq!(list.statuses[name].status(), ServingStatus::Serving, "{name}");
    }
    let stranger = check(&caller, "atomix.Nothing").await.expect_err("nobody has it");
    assert_eq!((stranger.code(), stranger.message()), (Code::NotFound, "unknown service"));
}

/// A connection that asks after the health first goes to the core of its partition all the same.
#[tokio::test]
async fn a_connection_that_checks_first_goes_on_as_any() {
    if !harness::possible() {
        return;
    }
    for partition in [1, 2, 3, 1, 2, 3] {
        let caller = Caller::to(harness::shared()).await;
        check(&caller, "").await.expect("it serves");
        let mut session = caller.open(partition, LONG).await;
        let counter = session.create("atomix.runtime.counter.v1.Counter", "checked").await;
        let before = add(&mut session, counter, 0).await.expect("a value");
        check(&caller, "").await.expect("it serves");
        assert_eq!(add(&mut session, counter, 1).await, Ok(before + 1));
        session.close().await.expect("it closes");
    }
}

#[tokio::test]
async fn watchers_hear_that_the_node_stops() {
    if !harness::possible() {
        return;
    }
    let dir = harness::data_dir();
    let node = harness::Node::start(dir.path(), &[]);
    let caller = Caller::to(&node.api).await;
    let mut watches: Vec<Heard<HealthCheckResponse>> = Vec::new();
    for name in ["", "atomix.multiraft.map.v1.Map", "atomix.Nothing"] {
        watches.push(caller.stream(WATCH, of(name)));
    }
    let mut hung_up = caller.stream::<_, HealthCheckResponse>(WATCH, of(""));
    next(&mut hung_up).await.expect("no error").expect("a first message");
    drop(hung_up);
    for (watch, expected) in watches.iter_mut().zip([
        ServingStatus::Serving,
        ServingStatus::Serving,
        ServingStatus::ServiceUnknown,
    ]) {
        let first = next(watch).await.expect("no error").expect("a first message");
        assert_eq!(first.status(), expected);
    }
    // A stream of reflection that stays open does not hold up the end.
    let mut chat: Reflection = caller.chat(REFLECTION);
    assert!(!listed(&mut chat).await.is_empty());

    let (status, took, stderr) = node.end_with("TERM", SOON);
    assert!(status.success(), "{status}: {stderr}");
    assert!(took < Duration::from_secs(5), "nobody was waited for: {took:?}");
    for watch in &mut watches[..2] {
        let last = next(watch).await.expect("no error yet").expect("a change");
        assert_eq!(last.status(), ServingStatus::NotServing);
    }
    for watch in &mut watches {
        let end = next(watch).await.expect_err("the node is gone");
        assert_eq!((end.code(), end.message()), (Code::Unavailable, "the node stops"));
    }
    let end = next(&mut chat.heard).await.expect_err("the node is gone");
    assert_eq!(end.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_watch_ends_with_its_deadline() {
    if !harness::possible() {
        return;
    }
    for name in ["", "atomix.Nothing"] {
        let head = raw(WATCH, &timeout("50m"), framed(&of(name))).await;
        assert_eq!(head["grpc-status"], "4", "{head:?}");
    }
}

#[tokio::test]
async fn reflection_shows_all_that_is_served() {
    if !harness::possible() {
        return;
    }
    let caller = Caller::to(harness::shared()).await;
    for path in [REFLECTION, REFLECTION_ALPHA] {
        let mut chat: Reflection = caller.chat(path);
        let names: BTreeSet<_> = SERVICES.iter().map(|service| service.name.to_owned()).collect();
        assert!(listed(&mut chat).await.iter().eq(&names));
        for service in &SERVICES {
            let files = symbol(&mut chat, service.name).await;
            let here: BTreeSet<_> = files.iter().map(FileDescriptorProto::name).collect();
            assert!(files.iter().flat_map(|file| &file.dependency).all(|d| here.contains(&d[..])));
            let (package, name) = service.name.rsplit_once('.').expect("a package");
            assert_eq!(files[0].package(), package);
            let found = files[0].service.iter().find(|found| found.name() == name);
            let methods: BTreeMap<_, _> = found
                .expect("the file that was asked for comes first")
                .method
                .iter()
                .map(|method| (method.name(), method.server_streaming()))
                .collect();
            let table = service.methods.iter().map(|method| (method.name, method.streaming));
            assert_eq!(methods, table.collect(), "{}", service.name);
        }
        let unknown = MessageRequest::FileByFilename("atomix/nothing.proto".to_owned());
        match asked(&mut chat, unknown).await {
            MessageResponse::ErrorResponse(error) => assert_eq!(error.error_code, 5),
            other => panic!("no error: {other:?}"),
        }
        chat.said_all();
        assert!(next(&mut chat.heard).await.expect("a regular end").is_none());
    }
}

#[tokio::test]
async fn the_released_dialect_shows_itself() {
    if !harness::possible() {
        return;
    }
    let dir = harness::data_dir();
    let node = harness::Node::start(dir.path(), &["--dialect", "released"]);
    let mut chat: Reflection = Caller::to(&node.api).await.chat(REFLECTION);
    let partition = symbol(&mut chat, "atomix.multiraft.v1.Partition").await;
    let methods = partition[0].service[0].method.iter();
    let methods: Vec<_> = methods.map(prost_types::MethodDescriptorProto::name).collect();
    assert_eq!(methods, ["OpenSession", "KeepAlive", "CloseSession"]);
    let headers = symbol(&mut chat, "atomix.multiraft.v1.QueryRequestHeaders").await;
    let query = headers[0].message_type.iter().find(|m| m.name() == "QueryRequestHeaders").unwrap();
    let fields: Vec<_> = query.field.iter().map(|f| (f.name(), f.number())).collect();
    assert_eq!(fields, [("operation", 1), ("sequence_num", 2), ("max_received_index", 3)]);
    assert_eq!(check(&Caller::to(&node.api).await, "").await.unwrap(), ServingStatus::Serving);
}

/// A client need not wait for one answer before it asks again; answers come in order.
#[tokio::test]
async fn many_questions_at_once_are_answered_in_order() {
    if !harness::possible() {
        return;
    }
    let mut chat: Reflection = Caller::to(harness::shared()).await.chat(REFLECTION);
    let names: Vec<String> = (0..200).map(|number| format!("nothing.X{number}")).collect();
    for name in &names {
        chat.say(asks(MessageRequest::FileContainingSymbol(name.clone()))).await;
    }
    chat.said_all();
    for name in &names {
        let answer = next(&mut chat.heard).await.expect("no error").expect("an answer");
        let Some(MessageResponse::ErrorResponse(error)) = answer.message_response else {
            panic!("{name} is found")
        };
        assert_eq!(error.error_message, format!("no symbol {name}"));
    }
    assert!(next(&mut chat.heard).await.expect("a regular end").is_none());
}

#[tokio::test]
async fn reflection_ends_in_form_whatever_is_said() {
    if !harness::possible() {
        return;
    }
    let grpc = [("content-type", "application/grpc")];
    for (message, status) in [
        // Nothing at all is a regular end, and so is a request for nothing.
        (&[][..], "0"),
        (&[0, 0, 0, 0, 0], "0"),
        (&[0, 0, 0, 0, 1, 0xFF], "3"),
        // Two messages, the second of them no request.
        (&[0, 0, 0, 0, 2, 0x3A, 0, 0, 0, 0, 0, 1, 0xFF], "3"),
        // The end comes inside a message.
        (&[0, 0, 0, 0, 9, 0x3A], "13"),
        (&[1, 0, 0, 0, 1, 0], "13"),
    ] {
        let head = raw(REFLECTION, &grpc, Bytes::from_static(message)).await;
        assert_eq!(head["grpc-status"], status, "{message:?}: {head:?}");
    }
    for path in [CHECK, WATCH] {
        let head = raw(path, &grpc, Bytes::from_static(&[0, 0, 0, 0, 1, 0xFF])).await;
        assert_eq!(head["grpc-status"], "3", "{path}: {head:?}");
        let head = raw(path, &grpc, Bytes::new()).await;
        assert_eq!(head["grpc-status"], "13", "{path} takes one message: {head:?}");
    }
}

/// A stream of reflection that has begun and never ends by itself ends with its deadline.
#[tokio::test]
async fn a_reflection_ends_with_its_deadline() {
    if !harness::possible() {
        return;
    }
    let (answer, mut body) = by_hand(&[("grpc-timeout", "50m")]).await;
    let question = asks(MessageRequest::ListServices(String::new()));
    body.send_data(framed(&question), false).unwrap();
    let answer = tokio::time::timeout(SOON, answer).await.expect("in time").expect("a head");
    let mut answers = answer.into_body();
    let said = async {
        assert!(answers.data().await.expect("an answer").is_ok());
        assert!(answers.data().await.is_none());
        answers.trailers().await.expect("no reset").expect("a status")
    };
    let trailers = tokio::time::timeout(SOON, said).await.expect("it ends");
    assert_eq!(trailers["grpc-status"], "4", "{trailers:?}");
}

/// A stream of reflection on a connection of its own, whose windows nobody opens.
async fn by_hand(headers: &[(&str, &str)]) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
    let socket = tokio::net::TcpStream::connect(harness::shared()).await.unwrap();
    let (sender, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    let mut request = http::Request::builder()
        .method("POST")
        .uri(format!("http://node{REFLECTION}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut sender = sender.ready().await.unwrap();
    sender.send_request(request.body(()).unwrap(), false).expect("a stream")
}

/// Who asks and asks and never reads is stopped, and the node is none the worse.
#[tokio::test]
async fn who_does_not_read_is_not_answered_for_ever() {
    if !harness::possible() {
        return;
    }
    let (answer, mut body) = by_hand(&[]).await;
    // About 6 KB each, 4000 times: far more than a window and the bound together.
    let question = MessageRequest::FileContainingSymbol("atomix.multiraft.map.v1.Map".to_owned());
    let question = framed(&asks(question));
    body.send_data(question.repeat(4_000).into(), false).unwrap();
    let answer = tokio::time::timeout(SOON, answer).await.expect("in time").expect("a head");
    let mut answers = answer.into_body();
    // Octets are looked at, but the window is never opened again.
    let mut octets = 0;
    let drained = async {
        while let Some(Ok(data)) = answers.data().await {
            octets += data.len();
        }
        answers.trailers().await
    };
    let trailers = tokio::time::timeout(SOON, drained).await.expect("it ends");
    let trailers = trailers.expect("no reset").expect("a status");
    assert_eq!(trailers["grpc-status"], "8", "{trailers:?}");
    assert!(octets < 128 << 10, "{octets} octets came through a window of 64 KiB");
    let caller = Caller::to(harness::shared()).await;
    assert_eq!(check(&caller, "").await.expect("it serves"), ServingStatus::Serving);
}
