//! placeholder so that dev-dependencies build
use {
    divan as _, proptest as _, tempfile as _, tokio as _, tokio_stream as _, tonic as _,
    tonic_prost as _,
};
#[test]
fn links() {}
