//! Server reflection: what a listener serves, told from the descriptors it was built from. Pure.
//!
//! `build.rs` encodes one descriptor set a dialect; it is part of the program and is indexed once,
//! when the first request comes, for all cores. A request is a look-up in sorted tables and a copy.
//! A file is answered together with all that it imports, the imported ones behind it: some clients
//! never ask for those. What was sent before is sent again, so that an answer hangs on nothing but
//! its request. `v1` and `v1alpha` are the same octets. Absent on purpose: comments of the
//! definitions, which would be most of the bytes.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;
use prost::Message;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    ServiceDescriptorProto,
};

use crate::edge::dialect::Dialect;
use crate::limits::{REFLECTION_HELD_BYTES_MAX, REFLECTION_REQUEST_BYTES_MAX};
use crate::partition::reply::Refusal;
use crate::wire::field::{Broken, Fields};
use crate::wire::grpc::Status;
use crate::wire::reflection::server_reflection_request::MessageRequest;
use crate::wire::reflection::server_reflection_response::MessageResponse;
use crate::wire::reflection::{
    ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse,
    ServerReflectionRequest, ServerReflectionResponse, ServiceResponse,
};

/// Appends the response to one request of a stream on a listener of `dialect`. What is not known is
/// an answer too; a refusal ends the stream.
pub fn answer(dialect: Dialect, message: &[u8], into: &mut Vec<u8>) -> Result<(), Refusal> {
    if message.len() > REFLECTION_REQUEST_BYTES_MAX {
        let most = REFLECTION_REQUEST_BYTES_MAX;
        return Err(Refusal::Malformed(format!("a request has {most} bytes at most")));
    }
    let request = ServerReflectionRequest::decode(message)
        .map_err(|error| Refusal::Malformed(format!("malformed request: {error}")))?;
    let pool = pool(dialect);
    let answered = match &request.message_request {
        Some(MessageRequest::FileByFilename(name)) => pool.file_by_name(name),
        Some(MessageRequest::FileContainingSymbol(name)) => pool.file_with_symbol(name),
        Some(MessageRequest::FileContainingExtension(extension)) => {
            pool.file_with_extension(&extension.containing_type, extension.extension_number)
        }
        Some(MessageRequest::AllExtensionNumbersOfType(name)) => pool.extensions_of(name),
        Some(MessageRequest::ListServices(_)) => Ok(pool.list()),
        None => Err((Status::InvalidArgument, "a request for nothing".to_owned())),
    };
    let response = ServerReflectionResponse {
        valid_host: request.host.clone(),
        original_request: Some(request),
        message_response: Some(answered.unwrap_or_else(|(status, error_message)| {
            let error_code = i32::from(status.code());
            MessageResponse::ErrorResponse(ErrorResponse { error_code, error_message })
        })),
    };
    response.encode(into).expect("a vector takes any number of bytes");
    Ok(())
}

/// The descriptors of what one dialect's listeners serve, and where in them everything is.
#[derive(Debug, Default)]
struct Pool {
    files: Vec<File>,
    /// Files by name.
    names: BTreeMap<String, usize>,
    /// The file of each full name.
    symbols: BTreeMap<String, usize>,
    /// The file of each extension, by what it extends and its number.
    extensions: BTreeMap<(String, i32), usize>,
    services: Vec<String>,
}

#[derive(Debug)]
struct File {
    /// A `FileDescriptorProto`.
    encoded: &'static [u8],
    /// It and all that it imports, near or far, each once.
    closure: Vec<usize>,
}

type Answered = Result<MessageResponse, (Status, String)>;

/// The descriptor sets, as `build.rs` wrote them.
const DOCUMENTED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/documented.descriptors"));
const RELEASED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/released.descriptors"));

const _: () = {
    // Whoever reads one answer before it asks for the next never holds back too much.
    assert!(DOCUMENTED.len() + 2 * REFLECTION_REQUEST_BYTES_MAX < REFLECTION_HELD_BYTES_MAX);
    assert!(RELEASED.len() + 2 * REFLECTION_REQUEST_BYTES_MAX < REFLECTION_HELD_BYTES_MAX);
};

fn pool(dialect: Dialect) -> &'static Pool {
    static OF_DOCUMENTED: LazyLock<Pool> = LazyLock::new(|| built(DOCUMENTED));
    static OF_RELEASED: LazyLock<Pool> = LazyLock::new(|| built(RELEASED));
    match dialect {
        Dialect::Documented => &OF_DOCUMENTED,
        // Every listener has the paths of rsm, and none speaks nothing else.
        Dialect::Released | Dialect::Rsm => &OF_RELEASED,
    }
}

/// The index of a set of our own making.
fn built(set: &'static [u8]) -> Pool {
    Pool::index(set).unwrap_or_else(|Broken| panic!("build.rs wrote no descriptor set"))
}

impl Pool {
    /// Files come after those they import, as the compiler sorts them.
    fn index(set: &'static [u8]) -> Result<Pool, Broken> {
        let mut pool = Pool::default();
        let mut fields = Fields::new(set);
        while let Some((number, value)) = fields.field()? {
            assert_eq!(number, 1, "a descriptor set has files");
            let encoded = value.bytes()?;
            let file = FileDescriptorProto::decode(encoded).map_err(|_| Broken)?;
            let at = pool.files.len();
            let mut closure = vec![at];
            for name in &file.dependency {
                let import = *pool.names.get(name).expect("imports come first");
                for far in &pool.files[import].closure {
                    if !closure.contains(far) {
                        closure.push(*far);
                    }
                }
            }
            pool.names.insert(file.name().to_owned(), at);
            pool.files.push(File { encoded, closure });
            pool.define(at, &file);
        }
        Ok(pool)
    }

    fn define(&mut self, at: usize, file: &FileDescriptorProto) {
        let scope = file.package();
        for message in &file.message_type {
            self.define_message(at, scope, message);
        }
        for of in &file.enum_type {
            self.define_enum(at, scope, of);
        }
        for service in &file.service {
            self.define_service(at, scope, service);
        }
        self.define_extensions(at, scope, &file.extension);
    }

    fn define_message(&mut self, at: usize, scope: &str, message: &DescriptorProto) {
        let name = self.define_symbol(at, scope, message.name());
        for field in &message.field {
            self.define_symbol(at, &name, field.name());
        }
        for choice in &message.oneof_decl {
            self.define_symbol(at, &name, choice.name());
        }
        for inner in &message.nested_type {
            self.define_message(at, &name, inner);
        }
        for inner in &message.enum_type {
            self.define_enum(at, &name, inner);
        }
        self.define_extensions(at, &name, &message.extension);
    }

    /// Values of an enum are named beside it, as in C++.
    fn define_enum(&mut self, at: usize, scope: &str, of: &EnumDescriptorProto) {
        self.define_symbol(at, scope, of.name());
        for value in &of.value {
            self.define_symbol(at, scope, value.name());
        }
    }

    fn define_service(&mut self, at: usize, scope: &str, service: &ServiceDescriptorProto) {
        let name = self.define_symbol(at, scope, service.name());
        for method in &service.method {
            self.define_symbol(at, &name, method.name());
        }
        self.services.push(name);
        self.services.sort_unstable();
    }

    fn define_extensions(&mut self, at: usize, scope: &str, extensions: &[FieldDescriptorProto]) {
        for extension in extensions {
            self.define_symbol(at, scope, extension.name());
            let extended = extension.extendee().trim_start_matches('.').to_owned();
            self.extensions.insert((extended, extension.number()), at);
        }
    }

    fn define_symbol(&mut self, at: usize, scope: &str, name: &str) -> String {
        let full = if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") };
        let before = self.symbols.insert(full.clone(), at);
        assert_eq!(before, None, "{full} is defined twice");
        full
    }

    fn file_by_name(&self, name: &str) -> Answered {
        self.file(self.names.get(name), || format!("no file {name}"))
    }

    fn file_with_symbol(&self, name: &str) -> Answered {
        self.file(self.symbols.get(name), || format!("no symbol {name}"))
    }

    fn file_with_extension(&self, extended: &str, number: i32) -> Answered {
        let at = self.extensions.get(&(extended.to_owned(), number));
        self.file(at, || format!("no extension {number} of {extended}"))
    }

    fn extensions_of(&self, name: &str) -> Answered {
        if !self.symbols.contains_key(name) {
            return Err((Status::NotFound, format!("no symbol {name}")));
        }
        let all = (name.to_owned(), i32::MIN)..=(name.to_owned(), i32::MAX);
        let numbers = self.extensions.range(all).map(|((_, number), _)| *number);
        Ok(MessageResponse::AllExtensionNumbersResponse(ExtensionNumberResponse {
            base_type_name: name.to_owned(),
            extension_number: numbers.collect(),
        }))
    }

    fn list(&self) -> MessageResponse {
        let service = self.services.iter().map(|name| ServiceResponse { name: name.clone() });
        MessageResponse::ListServicesResponse(ListServiceResponse { service: service.collect() })
    }

    fn file(&self, at: Option<&usize>, missing: impl FnOnce() -> String) -> Answered {
        let at = *at.ok_or_else(|| (Status::NotFound, missing()))?;
        let closure = self.files[at].closure.iter();
        let encoded = closure.map(|far| Bytes::from_static(self.files[*far].encoded));
        let files = FileDescriptorResponse { file_descriptor_proto: encoded.collect() };
        Ok(MessageResponse::FileDescriptorResponse(files))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
