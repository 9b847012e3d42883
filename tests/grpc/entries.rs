//! Values and indexed maps over the wire: one round through each method of theirs.

use ringraft::wire::proto::{indexedmap::v1 as indexedmap, value::v1 as value};

use crate::harness::caller::{Answer, Said, Session, next, outcome};
use crate::session;

macro_rules! value_path {
    ($method:literal) => {
        concat!("/atomix.multiraft.value.v1.Value/", $method)
    };
}

macro_rules! map_path {
    ($method:literal) => {
        concat!("/atomix.multiraft.indexedmap.v1.IndexedMap/", $method)
    };
}

async fn watched(stream: &mut crate::harness::caller::Heard<Answer<value::WatchOutput>>) -> String {
    let answer = next(stream).await.expect("no error").expect("an item");
    let head = answer.headers.and_then(|head| head.operation).expect("headers");
    text(outcome(head, answer.body).expect("a value").value)
}

fn text(value: Option<value::IndexedValue>) -> String {
    String::from_utf8(value.expect("a value").value.to_vec()).expect("text")
}

#[tokio::test]
async fn a_value_is_written_watched_and_deleted() {
    let Some(mut session) = session().await else { return };
    let id = session.create("atomix.runtime.value.v1.Value", "one").await;
    let insert = value::InsertInput { value: "a".into(), ttl: None };
    let said = session.command(id, value_path!("Insert"), insert).await;
    let value::InsertOutput { index } = said.expect("nothing was there");
    let question = session.question(id, value::WatchInput {});
    let mut stream = session.caller.stream(value_path!("Watch"), question);
    assert_eq!(watched(&mut stream).await, "a");
    let update = |value: &'static str, prev_index| value::UpdateInput {
        value: value.into(),
        prev_index,
        ttl: None,
    };
    let said = session.command(id, value_path!("Update"), update("b", index + 1)).await;
    let said = said.map(|_: value::UpdateOutput| ());
    assert_eq!(said.expect_err("another version").0, Said::Conflict);
    let said = session.command(id, value_path!("Update"), update("c", index)).await;
    assert_eq!(text(said.map(|output: value::UpdateOutput| output.prev_value).expect("fits")), "a");
    assert_eq!(watched(&mut stream).await, "c", "a refused update is not told");
    let set = value::SetInput { value: "d".into(), ttl: None };
    let said = session.command(id, value_path!("Set"), set).await;
    assert_eq!(text(said.map(|output: value::SetOutput| output.prev_value).expect("always")), "c");
    let said =
        session.command(id, value_path!("Delete"), value::DeleteInput { prev_index: 0 }).await;
    assert_eq!(text(said.map(|output: value::DeleteOutput| output.value).expect("is set")), "d");
    let said = session.query(id, value_path!("Get"), value::GetInput {}).await;
    let said = said.map(|_: value::GetOutput| ());
    assert_eq!(said, Err((Said::NotFound, "value not set".to_owned())));
}

async fn at(session: &mut Session, id: u64, next: bool, index: u64) -> Result<String, Said> {
    let entry = if next {
        let input = indexedmap::NextEntryInput { index };
        let said = session.query(id, map_path!("NextEntry"), input).await;
        said.map(|output: indexedmap::NextEntryOutput| output.entry)
    } else {
        let input = indexedmap::PrevEntryInput { index };
        let said = session.query(id, map_path!("PrevEntry"), input).await;
        said.map(|output: indexedmap::PrevEntryOutput| output.entry)
    };
    entry.map(|entry| entry.expect("an entry").key).map_err(|(said, _)| said)
}

#[tokio::test]
async fn an_indexed_map_is_walked_from_both_sides() {
    let Some(mut session) = session().await else { return };
    let id = session.create("atomix.runtime.indexedmap.v1.IndexedMap", "walked").await;
    for (index, key) in [(1, "c"), (2, "b"), (3, "a")] {
        let append = indexedmap::AppendInput { key: key.into(), value: "v".into(), ttl: None };
        let said = session.command(id, map_path!("Append"), append).await;
        let entry = said.map(|output: indexedmap::AppendOutput| output.entry).expect("new");
        assert_eq!(entry.map(|entry| entry.index), Some(index));
    }
    let remove = indexedmap::RemoveInput { key: String::new(), index: 2, prev_version: 0 };
    let said = session.command(id, map_path!("Remove"), remove).await;
    let entry = said.map(|output: indexedmap::RemoveOutput| output.entry).expect("is there");
    assert_eq!(entry.map(|entry| entry.key), Some("b".to_owned()));
    assert_eq!(at(&mut session, id, true, 0).await, Ok("c".to_owned()));
    assert_eq!(at(&mut session, id, true, 2).await, Ok("a".to_owned()));
    assert_eq!(at(&mut session, id, false, 2).await, Ok("c".to_owned()));
    assert_eq!(at(&mut session, id, false, 1).await, Err(Said::NotFound));
    let question = session.question(id, indexedmap::EntriesInput { watch: false });
    let mut stream = session.caller.stream(map_path!("Entries"), question);
    let mut keys = Vec::new();
    while let Some(answer) = next(&mut stream).await.expect("no error") {
        let answer: Answer<indexedmap::EntriesOutput> = answer;
        keys.push(answer.body.expect("an output").entry.expect("an entry").key);
    }
    assert_eq!(keys, ["c", "a"]);
}
