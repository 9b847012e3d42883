//! Every bound in the program, tied together by const assertions, with the sums shown.
//!
//! A bound ends in `_MAX` or names its unit. Past a bound the client gets a clear refusal and nothing is
//! lost (design.md, decision 14). What an operator may change is in `config.rs`; these are its edges.

/// One request from a client, without its gRPC prefix. grpc-go's default, which the reference keeps
/// (core.md 1.3).
pub const REQUEST_BYTES_MAX: usize = 4 << 20;

/// One command as it stands in an entry: the request's input and the ids around it. The ids, their tags
/// and lengths are below 256 bytes.
pub const COMMAND_BYTES_MAX: usize = REQUEST_BYTES_MAX + 256;

/// All commands that one turn admits for one partition; they leave as one entry.
pub const PARTITION_TURN_BYTES_MAX: usize = 8 << 20;

/// Cores that one node may use.
pub const SHARDS_MAX: usize = 256;

const _: () = {
    // A lone command always fits the turn.
    assert!(COMMAND_BYTES_MAX <= PARTITION_TURN_BYTES_MAX);
};

// ── The edge ───────────────────────────────────────────────────────────────────────────────────────────

/// Members of one group. Raft with more than a handful gains nothing; the bound keeps a request small.
pub const GROUP_MEMBERS_MAX: usize = 64;
