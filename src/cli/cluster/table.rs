//! How a look at a cluster is told: a table for people, an object a partition for programs.

use std::fmt::Write;

use serde_json::{Value, json};

use super::look::{Line, Peer, View};
use crate::wire::cluster::{Part, Role};

impl View {
    /// The nodes and the partitions, for people.
    #[must_use]
    pub fn table(&self) -> String {
        let lines = self.lines();
        let mut rows = vec![["NODE", "CLIENTS", "REPLICAS", "LEADS", "STATE"].map(str::to_owned)];
        for (address, seen) in &self.nodes {
            rows.push(match seen {
                Ok(seen) => {
                    let id = seen.id.map_or("-".to_owned(), |id| id.to_string());
                    let here = lines.iter().filter(|line| seen.has(line.partition)).count();
                    let leads = lines.iter().filter(|line| Some(line.leader) == seen.id).count();
                    let (here, leads) = (here.to_string(), leads.to_string());
                    [id, address.clone(), here, leads, "serves".to_owned()]
                }
                Err(fault) => {
                    let dash = || "-".to_owned();
                    [self.name_of(address), address.clone(), dash(), dash(), fault.to_string()]
                }
            });
        }
        let mut text = columns(&rows, &[2, 3]);
        text.push('\n');
        let heads = ["PARTITION", "LEADER", "TERM", "MEMBERS", "ROLES", "LAG", "STATE"];
        let mut rows = vec![heads.map(str::to_owned)];
        rows.extend(lines.iter().map(Line::row));
        text.push_str(&columns(&rows, &[]));
        text
    }

    /// The id of a node that does not answer, when others know it.
    fn name_of(&self, address: &str) -> String {
        let lines = self.lines();
        let mut members = lines.iter().flat_map(|line| &line.members);
        let its = members.find(|member| member.clients == address);
        its.map_or("?".to_owned(), |member| member.node.to_string())
    }
}

impl Line {
    fn row(&self) -> [String; 7] {
        let dash = || "-".to_owned();
        let leader = if self.leader == 0 { dash() } else { self.leader.to_string() };
        let each = |tell: &dyn Fn(&Peer) -> String| {
            let told: Vec<String> = self.members.iter().map(tell).collect();
            if told.is_empty() { dash() } else { told.join(" ") }
        };
        let members = each(&|member| member.node.to_string());
        let lag = each(&|member| member.lag.map_or_else(dash, |lag| lag.to_string()));
        let (partition, term) = (self.partition.to_string(), self.term.to_string());
        [partition, leader, term, members, self.roles(), lag, self.state()]
    }

    /// How many there are in each part.
    fn roles(&self) -> String {
        let mut told = Vec::new();
        for (name, names, is) in PARTS {
            match self.members.iter().filter(|member| is(member)).count() {
                0 => {}
                1 => told.push(format!("1 {name}")),
                count => told.push(format!("{count} {names}")),
            }
        }
        if told.is_empty() { "-".to_owned() } else { told.join(", ") }
    }

    /// How it is, in words.
    pub(super) fn state(&self) -> String {
        let (voters, missing) =
            (self.voters().count(), self.voters().filter(|it| !it.answers).count());
        if voters == 0 {
            return "no replica answers".to_owned();
        }
        let mut state = match missing {
            missing if 2 * missing >= voters => return "stands still: no majority".to_owned(),
            _ if self.leader == 0 => return "elects a leader".to_owned(),
            0 => "works".to_owned(),
            missing => format!("works, {missing} of {voters} missing"),
        };
        for member in self.members.iter().filter(|member| is_joining(member)) {
            let how = if member.snapshot { "gets a snapshot" } else { "catches up" };
            let _ = write!(state, ", {} {how}", member.node);
        }
        if self.changing {
            state.push_str(", members change");
        }
        state
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let members: Vec<Value> = self.members.iter().map(|it| self.member_json(it)).collect();
        json!({
            "partition": self.partition,
            "leader": (self.leader > 0).then_some(self.leader),
            "term": self.term,
            "members": members,
            "works": self.works(),
            "changing": self.changing,
            "state": self.state(),
        })
    }

    fn member_json(&self, member: &Peer) -> Value {
        let part = match member.part {
            Part::Votes => "votes",
            Part::Listens => "listens",
            Part::Goes => "goes",
            Part::None => "none",
        };
        json!({
            "node": member.node.0,
            "address": member.clients,
            "peers": format!("{}:{}", member.host, member.port),
            "role": role(member.role),
            "part": part,
            "leads": self.leader == u64::from(member.node.0),
            "answers": member.answers,
            "heard": member.heard,
            "matched": member.matched,
            "lag": member.lag,
            "snapshot": member.snapshot,
        })
    }
}

/// A role by the name that is typed.
pub(super) fn role(role: Role) -> &'static str {
    match role {
        Role::Member => "member",
        Role::Observer => "observer",
        Role::Witness => "witness",
    }
}

/// A sort of member: its name for one and for several, and who is one.
type Sort = (&'static str, &'static str, fn(&Peer) -> bool);

const PARTS: [Sort; 5] = [
    ("member", "members", |it| it.role == Role::Member && it.part == Part::Votes),
    ("witness", "witnesses", |it| it.role == Role::Witness && it.part == Part::Votes),
    ("observer", "observers", |it| it.role == Role::Observer && it.part != Part::Goes),
    ("joining", "joining", is_joining),
    ("leaving", "leaving", |it| it.part == Part::Goes),
];

fn is_joining(member: &Peer) -> bool {
    member.role != Role::Observer && matches!(member.part, Part::Listens | Part::None)
}

/// Columns as wide as what stands in them; those of `right` hold numbers.
fn columns<const N: usize>(rows: &[[String; N]], right: &[usize]) -> String {
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            let wide = widths[at];
            let _ = match at {
                _ if right.contains(&at) => write!(text, "{cell:>wide$}  "),
                _ if at + 1 == N => write!(text, "{cell}"),
                _ => write!(text, "{cell:<wide$}  "),
            };
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::look::tests::{gone, seen, view};
    use super::*;
    use crate::id::NodeId;

    #[test]
    fn the_table_says_who_is_where_and_how_far() {
        let all = ["a:1", "b:1", "c:1"];
        let view = view(&[("a:1", seen(1, 2, &all)), ("b:1", seen(2, 2, &all)), ("c:1", gone())]);
        let expected = "\
NODE  CLIENTS  REPLICAS  LEADS  STATE
1     a:1             1      0  serves
2     b:1             1      1  serves
3     c:1             -      -  no node answers at c:1: no

PARTITION  LEADER  TERM  MEMBERS  ROLES      LAG    STATE
1          2       4     1 2 3    3 members  0 1 2  works, 1 of 3 missing
";
        assert_eq!(view.table(), expected);
        let json = view.lines()[0].json();
        assert_eq!(json["members"][1]["leads"], true);
        assert_eq!(json["members"][2]["answers"], false);
        assert_eq!((&json["members"][2]["lag"], &json["works"]), (&json!(2), &json!(true)));
    }

    #[test]
    fn parts_are_counted_by_their_names() {
        let all = ["a:1", "b:1", "c:1", "d:1", "e:1"];
        let view = view(&[("a:1", seen(1, 1, &all))]);
        let mut line = view.lines().remove(0);
        assert_eq!(line.state(), "stands still: no majority");
        for member in &mut line.members {
            member.answers = true;
        }
        let set = |line: &mut Line, node: u32, role, part| {
            let member = line.members.iter_mut().find(|it| it.node == NodeId(node)).expect("there");
            (member.role, member.part) = (role, part);
        };
        set(&mut line, 2, Role::Observer, Part::Listens);
        set(&mut line, 3, Role::Member, Part::Listens);
        set(&mut line, 4, Role::Member, Part::Goes);
        set(&mut line, 5, Role::Witness, Part::Votes);
        assert_eq!(line.roles(), "1 member, 1 witness, 1 observer, 1 joining, 1 leaving");
        line.changing = true;
        assert_eq!(line.state(), "works, 3 catches up, members change");
    }
}
