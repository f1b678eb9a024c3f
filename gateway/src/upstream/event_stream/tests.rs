//! Tests of where a beat may stand: by a table, at every cut, and for answers made up at random.

use proptest::prelude::*;

use super::*;

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Whether a beat may stand before the first byte, behind the first one, and so on to the end.
fn places(answer: &[u8]) -> Vec<bool> {
    let mut follower = Follower::new();
    let mut places = vec![follower.stands_between_events()];
    for byte in answer {
        follower.follow(std::slice::from_ref(byte));
        places.push(follower.stands_between_events());
    }
    places
}

/// Whether a beat may stand behind all of it.
fn stands(answer: &[u8]) -> bool {
    let mut follower = Follower::new();
    follower.follow(answer);
    follower.stands_between_events()
}

fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

#[test]
fn a_beat_stands_behind_an_event_and_nowhere_else() {
    for (expected, body) in [
        (true, String::new()),
        (true, chunk("data: 1\n\n")),
        (true, chunk("data: 1\r\n\r\n")),
        (true, chunk("data: 1\r\r")),
        (true, chunk("data: 1\n") + &chunk("\n")),
        (true, chunk("data: 1\r\n\r") + &chunk("\n")),
        (true, chunk("data: 1\n\ndata: 2\n\n")),
        (true, chunk("\n")),
        (true, chunk(": comment\n\n")),
        (true, format!("A;name=\"value\";other\r\ndata: 12\n\n\r\n{}", chunk("data: 2\n\n"))),
        (true, "00009 \r\ndata: 1\n\n\r\n".to_owned()),
        (false, chunk("data: 1")),
        (false, chunk("data: 1\n")),
        (false, chunk("data: 1\r\n")),
        (false, chunk("data: 1\r")),
        (false, chunk("data: 1\r\n\r")),
        (false, chunk("data: 1\n\ndata: 2\n")),
        (false, chunk("data: 1\n\n:")),
        (false, "9\r\ndata: 1\n\n".to_owned()),
        (false, "9\r\ndata: 1\n\n\r".to_owned()),
        (false, chunk("data: 1\n\n") + "9"),
        (false, chunk("data: 1\n\n") + "9;name"),
        (false, chunk("data: 1\n\n") + "9\r"),
        (false, chunk("data: 1\n\n") + "9\r\n"),
        (false, chunk("data: 1\n\n") + "0\r\n"),
        (false, chunk("data: 1\n\n") + "0\r\n\r\n"),
        (false, chunk("data: 1\n\n") + "0\r\nTrailer: x\r\n\r\n"),
        (false, chunk("data: 1\n\n") + "0\r\n\r\n" + HEAD),
    ] {
        assert_eq!(stands((HEAD.to_owned() + &body).as_bytes()), expected, "{body:?}");
    }
}

#[test]
fn what_is_no_chunk_leads_astray_for_good() {
    let long = format!("9;{}\r\ndata: 1\n\n\r\n", "x".repeat(SIZE_LINE_BYTES_MAX));
    let digits = "0".repeat(SIZE_DIGITS_MAX) + "9\r\ndata: 1\n\n\r\n";
    for broken in [
        long.as_str(),
        digits.as_str(),
        "9\ndata: 1\n\n\r\n",
        "9;a\nb\r\ndata: 1\n\n\r\n",
        "9\r\ndata: 1\n\n\n",
        "x\r\n",
        "\r\n",
        "-1\r\n",
    ] {
        let answer = format!("{HEAD}{broken}{}", chunk("data: 2\n\n"));
        assert!(!stands(answer.as_bytes()), "{broken:?}");
    }
}

#[test]
fn only_an_answer_that_brings_plain_events_in_chunks_is_followed() {
    let events = "Content-Type: text/event-stream";
    let chunked = "Transfer-Encoding: chunked";
    for (expected, status, fields) in [
        (true, "HTTP/1.1 200 OK", vec![events, chunked]),
        (true, "HTTP/1.1 200", vec![chunked, "X: y", events]),
        (true, "HTTP/1.1 404 Not Found", vec![events, chunked]),
        (
            true,
            "HTTP/1.1 200 OK",
            vec!["content-type:Text/Event-Stream ; charset=utf-8", "TRANSFER-ENCODING:\tChunked"],
        ),
        (true, "HTTP/1.1 200 OK", vec![events, chunked, "Server: \u{e9}"]),
        (false, "HTTP/1.1 200 OK", vec![events]),
        (false, "HTTP/1.1 200 OK", vec![chunked]),
        (false, "HTTP/1.1 200 OK", vec![]),
        (false, "HTTP/1.1 200 OK", vec!["Content-Type: text/event-streams", chunked]),
        (false, "HTTP/1.1 200 OK", vec!["Content-Type: application/json", chunked]),
        (false, "HTTP/1.1 200 OK", vec![events, events, chunked]),
        (false, "HTTP/1.1 200 OK", vec![events, chunked, chunked]),
        (false, "HTTP/1.1 200 OK", vec![events, "Transfer-Encoding: gzip, chunked"]),
        (false, "HTTP/1.1 200 OK", vec![events, chunked, "Content-Encoding: gzip"]),
        (false, "HTTP/1.1 200 OK", vec![events, chunked, "Content-Length: 9"]),
        (false, "HTTP/1.1 200 OK", vec![events, chunked, "Content-Length : 9"]),
        (false, "HTTP/1.1 200 OK", vec![events, chunked, "X: y\n z"]),
        (false, "HTTP/1.1 200 OK", vec![events, chunked, " folded: line"]),
        (false, "HTTP/1.1 200 OK", vec![events, chunked, "no field"]),
        (false, "HTTP/1.0 200 OK", vec![events, chunked]),
        (false, "HTTP/1.1 101 Switching Protocols", vec![events, chunked]),
        (false, "HTTP/1.1 204 No Content", vec![events, chunked]),
        (false, "HTTP/1.1 304 Not Modified", vec![events, chunked]),
        (false, "HTTP/1.1 099 Nothing", vec![events, chunked]),
        (false, "HTTP/1.1 2000 OK", vec![events, chunked]),
        (false, "ICY 200 OK", vec![events, chunked]),
        (false, "", vec![events, chunked]),
    ] {
        let answer = format!("{status}\r\n{}\r\n\r\n", fields.join("\r\n"));
        assert_eq!(stands(answer.as_bytes()), expected, "{answer:?}");
    }
}

#[test]
fn answers_that_go_before_the_final_one_are_passed_over() {
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n";
    let answer = format!("HTTP/1.1 100 Continue\r\n\r\n{early}{HEAD}{}", chunk("data: 1\n\n"));
    let places = places(answer.as_bytes());
    let head_end = answer.len() - chunk("data: 1\n\n").len();
    assert_eq!(places.iter().position(|stands| *stands), Some(head_end));
    assert!(places[answer.len()]);
}

#[test]
fn a_head_that_does_not_end_is_not_kept() {
    let mut follower = Follower::new();
    let endless = "x".repeat(HEAD_BYTES_MAX);
    for _ in 0..2 {
        follower.follow(endless.as_bytes());
        assert!(follower.head.is_empty() && follower.place == Place::Astray);
    }
}

#[test]
fn every_cut_in_two_gives_the_same() {
    let answers = [
        format!(
            "HTTP/1.1 100 Continue\r\n\r\n{HEAD}{}{}",
            chunk("id: 1\ndata: 1\n\ndata"),
            chunk(": 2\r\n\r\n: c\r\r")
        ),
        format!("{HEAD}9;a=b\r\ndata: 1\n\n\r\n{}0\r\nTrailer: x\r\n\r\n", chunk("data: 2\n\n\n")),
        format!("{HEAD}{}x", chunk("data: 1\n\n")),
    ];
    for answer in answers {
        let answer = answer.as_bytes();
        let places = places(answer);
        for cut in 0..=answer.len() {
            let mut follower = Follower::new();
            follower.follow(&answer[..cut]);
            assert_eq!(
                follower.stands_between_events(),
                places[cut],
                "{:?}",
                String::from_utf8_lossy(&answer[..cut])
            );
            follower.follow(&answer[cut..]);
            assert_eq!(follower.stands_between_events(), places[answer.len()], "cut at {cut}");
        }
    }
}

/// The data of a body in chunks, read by the book, whose last chunk may be missing.
fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    while let Some(line_end) = body.windows(2).position(|window| window == b"\r\n") {
        let line = std::str::from_utf8(&body[..line_end]).expect("a line of text");
        let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16).expect("a size");
        if size == 0 {
            break;
        }
        data.extend_from_slice(&body[line_end + 2..][..size]);
        assert_eq!(&body[line_end + 2 + size..][..2], b"\r\n");
        body = &body[line_end + 4 + size..];
    }
    data
}

/// The events of a stream, as a browser reads them: the fields of each, without comments.
fn events(stream: &[u8]) -> Vec<Vec<String>> {
    let text = String::from_utf8_lossy(stream).replace("\r\n", "\n").replace('\r', "\n");
    let events = text.split("\n\n").map(|event| {
        event.lines().filter(|line| !line.is_empty() && !line.starts_with(':')).map(str::to_owned).collect::<Vec<_>>()
    });
    events.filter(|fields| !fields.is_empty()).collect()
}

/// Pieces of which streams are made.
fn pieces() -> impl Strategy<Value = Vec<String>> {
    let end = prop::sample::select(vec!["\n", "\r\n", "\r"]);
    let line = prop::sample::select(vec!["data: x", "data", ": c", "id: 1", "event: e", ""]);
    let stream = prop::collection::vec((line, end), 0..12)
        .prop_map(|lines| lines.into_iter().flat_map(|(line, end)| [line, end]).collect::<String>());
    // Cut anywhere into chunks that are not empty.
    (stream, prop::collection::vec(1..9_usize, 1..40)).prop_map(|(stream, lengths)| {
        let (mut rest, mut pieces) = (stream.as_str(), Vec::new());
        for length in lengths.into_iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, behind) = rest.split_at(length.min(rest.len()));
            pieces.push(piece.to_owned());
            rest = behind;
        }
        pieces
    })
}

proptest! {
    #[test]
    fn beats_wherever_they_may_stand_change_no_event(cut in pieces()) {
        let body = cut.iter().map(|piece| chunk(piece)).collect::<String>() + "0\r\n\r\n";
        let answer = format!("{HEAD}{body}");
        let mut with_beats = Vec::new();
        for (byte, stands) in answer.as_bytes().iter().zip(places(answer.as_bytes())) {
            if stands {
                with_beats.extend_from_slice(b"3\r\n:\n\n\r\n");
            }
            with_beats.push(*byte);
        }
        let (plain, beaten) = (unchunked(body.as_bytes()), unchunked(&with_beats[HEAD.len()..]));
        prop_assert_eq!(events(&plain), events(&beaten));
        // The very bytes of the server are still there, in their order.
        let without = String::from_utf8_lossy(&with_beats).replace("3\r\n:\n\n\r\n", "");
        prop_assert_eq!(without, answer);
    }

    #[test]
    fn any_bytes_are_followed_alike_however_they_are_cut(
        bytes in prop::collection::vec(prop::sample::select(b"\r\n09aA;: xd\0".to_vec()), 0..60),
        cut in 0..60_usize,
    ) {
        let answer = [HEAD.as_bytes(), &bytes].concat();
        let cut = HEAD.len() + cut.min(bytes.len());
        let mut follower = Follower::new();
        follower.follow(&answer[..cut]);
        prop_assert_eq!(follower.stands_between_events(), places(&answer)[cut]);
        follower.follow(&answer[cut..]);
        prop_assert_eq!(follower.stands_between_events(), stands(&answer));
        prop_assert_eq!(follower.stands_between_events(), places(&answer)[answer.len()]);
    }
}
