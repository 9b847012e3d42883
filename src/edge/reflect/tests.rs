//! What reflection shows is what the table serves, and every question has its answer.

use std::collections::{BTreeMap, BTreeSet};

use prost_types::FileDescriptorSet;

use super::*;
use crate::edge::method::SERVICES;
use crate::wire::reflection::ExtensionRequest;

const DIALECTS: [Dialect; 2] = [Dialect::Documented, Dialect::Released];

fn ask(dialect: Dialect, request: MessageRequest) -> MessageResponse {
    let request =
        ServerReflectionRequest { host: "here".to_owned(), message_request: Some(request) };
    let mut bytes = Vec::new();
    answer(dialect, &request.encode_to_vec(), &mut bytes).unwrap();
    let response = ServerReflectionResponse::decode(&bytes[..]).unwrap();
    assert_eq!(response.valid_host, "here");
    assert_eq!(response.original_request, Some(request));
    response.message_response.unwrap()
}

fn files(response: MessageResponse) -> Vec<FileDescriptorProto> {
    let MessageResponse::FileDescriptorResponse(files) = response else {
        panic!("no files: {response:?}")
    };
    let files = files.file_descriptor_proto.iter();
    files.map(|file| FileDescriptorProto::decode(&file[..]).unwrap()).collect()
}

fn symbol(dialect: Dialect, name: &str) -> Vec<FileDescriptorProto> {
    files(ask(dialect, MessageRequest::FileContainingSymbol(name.to_owned())))
}

fn error(response: MessageResponse) -> (i32, String) {
    let MessageResponse::ErrorResponse(error) = response else { panic!("no error: {response:?}") };
    (error.error_code, error.error_message)
}

/// Every method by its path, with whether it takes and gives streams.
fn methods(set: &[u8]) -> BTreeMap<String, (bool, bool)> {
    let mut methods = BTreeMap::new();
    for file in FileDescriptorSet::decode(set).unwrap().file {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                methods.insert(path, (method.client_streaming(), method.server_streaming()));
            }
        }
    }
    methods
}

#[test]
fn what_is_shown_is_what_is_served() {
    let mut served = BTreeMap::new();
    for service in &SERVICES {
        for method in service.methods {
            let path = format!("/{}/{}", service.name, method.name);
            served.insert(path, (!method.is_single(), method.streaming));
        }
    }
    assert_eq!(methods(DOCUMENTED), served);
    served.remove("/atomix.multiraft.v1.Partition/Watch").unwrap();
    assert_eq!(methods(RELEASED), served);

    for dialect in DIALECTS {
        let MessageResponse::ListServicesResponse(listed) =
            ask(dialect, MessageRequest::ListServices(String::new()))
        else {
            panic!("no list")
        };
        let listed: Vec<_> = listed.service.into_iter().map(|service| service.name).collect();
        let names: BTreeSet<_> = SERVICES.iter().map(|service| service.name.to_owned()).collect();
        assert!(listed.iter().eq(&names), "{listed:?}");
    }
}

/// Each answer can be understood by itself: it holds the file asked for, first, and all imports.
#[test]
fn every_symbol_is_found_with_all_that_its_file_imports() {
    for dialect in DIALECTS {
        let pool = pool(dialect);
        assert!(pool.symbols.len() > 1000, "{} symbols", pool.symbols.len());
        let names: Vec<_> = pool.names.iter().collect();
        for (name, at) in names {
            let found = files(ask(dialect, MessageRequest::FileByFilename(name.clone())));
            assert_eq!(found[0].name(), name);
            let here: BTreeSet<_> = found.iter().map(FileDescriptorProto::name).collect();
            assert_eq!(here.len(), found.len(), "each file once");
            for file in &found {
                assert!(file.source_code_info.is_none());
                assert!(file.dependency.iter().all(|name| here.contains(&name[..])), "{name}");
            }
            let symbol = pool.symbols.iter().find(|(_, its)| *its == at).unwrap().0;
            assert_eq!(self::symbol(dialect, symbol), found);
        }
    }
}

#[test]
fn symbols_of_every_sort_are_known() {
    for (name, file) in [
        ("atomix.multiraft.counter.v1.Counter", "atomix/multiraft/counter/v1/service.proto"),
        ("atomix.multiraft.counter.v1.Counter.Get", "atomix/multiraft/counter/v1/service.proto"),
        ("atomix.multiraft.counter.v1.GetInput", "atomix/multiraft/counter/v1/fsm.proto"),
        ("atomix.multiraft.v1.PartitionEvent.LogEvent", "atomix/multiraft/v1/partition.proto"),
        ("atomix.multiraft.v1.PartitionEvent.timestamp", "atomix/multiraft/v1/partition.proto"),
        ("atomix.multiraft.v1.PartitionEvent.event", "atomix/multiraft/v1/partition.proto"),
        (
            "atomix.multiraft.v1.OperationResponseHeaders.Status",
            "atomix/multiraft/v1/headers.proto",
        ),
        ("atomix.multiraft.v1.OperationResponseHeaders.OK", "atomix/multiraft/v1/headers.proto"),
        ("google.protobuf.Timestamp", "google/protobuf/timestamp.proto"),
        ("grpc.reflection.v1.ServerReflection", "grpc/reflection/v1/reflection.proto"),
        ("grpc.reflection.v1alpha.ServerReflection", "grpc/reflection/v1alpha/reflection.proto"),
        ("grpc.health.v1.Health.List", "grpc/health/v1/health.proto"),
    ] {
        assert_eq!(symbol(Dialect::Documented, name)[0].name(), file);
    }
}

/// The released descriptors say what `dialect.rs` does.
#[test]
fn a_dialect_shows_its_own_numbers() {
    for dialect in DIALECTS {
        let headers = &symbol(dialect, "atomix.multiraft.v1.QueryRequestHeaders")[0];
        let message = |name: &str| {
            headers.message_type.iter().find(|message| message.name() == name).unwrap()
        };
        let query = message("QueryRequestHeaders");
        let field = query.field.iter().find(|field| field.name() == "max_received_index").unwrap();
        assert_eq!(field.number(), dialect.max_received_index_field() as i32);
        let numbered = query.field.iter().any(|field| field.name() == "sequence_num");
        assert_eq!(numbered, dialect.numbers_queries());
        let status = &message("OperationResponseHeaders").enum_type[0];
        for (name, status_of) in [
            ("OK", crate::partition::reply::Status::Ok),
            ("ERROR", crate::partition::reply::Status::Error),
            ("UNKNOWN", crate::partition::reply::Status::Unknown),
            ("FAULT", crate::partition::reply::Status::Fault),
        ] {
            let value = status.value.iter().find(|value| value.name() == name).unwrap();
            assert_eq!(value.number() as u64, dialect.status(status_of), "{name}");
        }
    }
    let node = &symbol(Dialect::Released, "atomix.multiraft.v1.MemberEvent")[0];
    assert_eq!(node.name(), "atomix/multiraft/v1/node.proto");
    let gone = MessageRequest::FileByFilename("atomix/multiraft/v1/config.proto".to_owned());
    assert_eq!(error(ask(Dialect::Released, gone)).0, 5);
}

#[test]
fn what_is_not_known_is_said_and_the_stream_goes_on() {
    let dialect = Dialect::Documented;
    let extension =
        ExtensionRequest { containing_type: "google.protobuf.X".to_owned(), extension_number: 9 };
    for (request, text) in [
        (MessageRequest::FileByFilename("x.proto".to_owned()), "no file x.proto"),
        (MessageRequest::FileContainingSymbol("x.Y".to_owned()), "no symbol x.Y"),
        (MessageRequest::FileContainingSymbol(String::new()), "no symbol "),
        (MessageRequest::FileContainingSymbol(".x".to_owned()), "no symbol .x"),
        (MessageRequest::FileContainingExtension(extension), "no extension 9 of google.protobuf.X"),
        (MessageRequest::AllExtensionNumbersOfType("x.Y".to_owned()), "no symbol x.Y"),
    ] {
        assert_eq!(error(ask(dialect, request)), (5, text.to_owned()));
    }
    let known = MessageRequest::AllExtensionNumbersOfType("google.protobuf.Duration".to_owned());
    let MessageResponse::AllExtensionNumbersResponse(none) = ask(dialect, known) else {
        panic!("a type without extensions has none")
    };
    assert_eq!(none.base_type_name, "google.protobuf.Duration");
    assert!(none.extension_number.is_empty());
    let mut bytes = Vec::new();
    answer(dialect, &[], &mut bytes).unwrap();
    let response = ServerReflectionResponse::decode(&bytes[..]).unwrap().message_response.unwrap();
    assert_eq!(error(response), (3, "a request for nothing".to_owned()));
}

/// Extensions are found where there are any; what is served has none today.
#[test]
fn extensions_are_indexed_wherever_they_stand() {
    let extension = |name: &str, number| FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        extendee: Some(".google.protobuf.FieldOptions".to_owned()),
        ..FieldDescriptorProto::default()
    };
    let base = FileDescriptorProto {
        name: Some("base.proto".to_owned()),
        package: Some("google.protobuf".to_owned()),
        message_type: vec![DescriptorProto {
            name: Some("FieldOptions".to_owned()),
            ..DescriptorProto::default()
        }],
        ..FileDescriptorProto::default()
    };
    let file = FileDescriptorProto {
        name: Some("options.proto".to_owned()),
        dependency: vec!["base.proto".to_owned()],
        extension: vec![extension("second", 65002), extension("first", 65001)],
        message_type: vec![DescriptorProto {
            name: Some("Scope".to_owned()),
            extension: vec![extension("third", -1)],
            ..DescriptorProto::default()
        }],
        ..FileDescriptorProto::default()
    };
    let set = FileDescriptorSet { file: vec![base, file] }.encode_to_vec();
    let pool = built(set.leak());
    let name = "google.protobuf.FieldOptions";
    let Ok(MessageResponse::AllExtensionNumbersResponse(all)) = pool.extensions_of(name) else {
        panic!("the type is known")
    };
    assert_eq!(all.extension_number, [-1, 65001, 65002]);
    let found = files(pool.file_with_extension(name, 65002).unwrap());
    let names: Vec<_> = found.iter().map(FileDescriptorProto::name).collect();
    assert_eq!(names, ["options.proto", "base.proto"]);
    assert_eq!(pool.file_with_symbol("Scope.third").map(files).unwrap(), found);
}

#[test]
fn a_request_that_is_none_ends_the_stream() {
    let mut bytes = Vec::new();
    let long = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::FileByFilename(
            "x".repeat(REFLECTION_REQUEST_BYTES_MAX),
        )),
    };
    for bad in [&b"\x1a\x05ab"[..], b"\x1a\x01\xff", b"\xff", &long.encode_to_vec()] {
        let refused = answer(Dialect::Documented, bad, &mut bytes);
        assert!(matches!(refused, Err(Refusal::Malformed(_))), "{bad:?}");
    }
    assert!(bytes.is_empty(), "a refusal writes nothing");
}
