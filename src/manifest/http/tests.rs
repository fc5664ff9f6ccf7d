//! The HTTP source: what answers want, and what stays where they want nothing that can be.

use super::*;
use crate::manifest::parse;

const URL: &str = "http://h/pods";

fn http() -> Http {
    Http::new(URL.into(), "different-value".into())
}

fn body(text: &str) -> Answer {
    Answer::Body(text.as_bytes().to_vec())
}

fn pod(name: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c, image: box}}]{more}}}\n"
    )
}

/// What is wanted beside these files' pods: full names, and messages.
fn listed(http: &Http, files: &str) -> (Vec<String>, Vec<String>) {
    let parsed = parse(files.as_bytes(), "f.yaml", "/m/f.yaml", "different-value");
    let mut listing = Listing { pods: parsed.pods.into_iter().map(Arc::new).collect(), ..Listing::default() };
    http.join(&mut listing);
    assert!(listing.problems.iter().all(|problem| problem.file == URL));
    (
        listing.pods.iter().map(|pod| format!("{} of {}", pod.full_name(), pod.origin)).collect(),
        listing
            .problems
            .into_iter()
            .map(|problem| format!("{}: {}", problem.field, problem.message))
            .collect(),
    )
}

fn pods(http: &Http) -> Vec<String> {
    listed(http, "").0
}

/// http_test.go: TestExtractInvalidPods, TestExtractPodsFromHTTP.
#[test]
fn answers_are_judged_as_the_kubelet_judges() {
    let item = |name: &str, more: &str, image: &str| {
        format!(
            r#"{{"metadata":{{"name":"{name}"{more}}},"spec":{{"containers":[{{"name":"1","image":"{image}"}}]}}}}"#
        )
    };
    let one = item("foo", r#","uid":"111","namespace":"mynamespace""#, "foo");
    let one = format!(r#"{{"apiVersion":"v1","kind":"Pod",{}"#, &one[1..]);
    let list = format!(
        r#"{{"apiVersion":"v1","kind":"PodList","items":[{},{}]}}"#,
        item("foo", r#","uid":"111""#, "foo"),
        item("bar", r#","uid":"222""#, "bar:bartag")
    );
    let refused: &[(&str, &str)] = &[
        (
            r#"{"kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[{"name":"c","image":"i"}]}}"#,
            "apiVersion: is missing",
        ),
        (
            r#"{"kind":"Pod","apiVersion":"v1betta2","metadata":{"name":"a"},"spec":{}}"#,
            "apiVersion: \"v1betta2\" has no Pod",
        ),
        (
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"},"spec":{"containers":[{"name":"","image":"i"}]}}"#,
            "spec.containers[0].name: ",
        ),
        (
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"},"spec":{"containers":[{"name":"_INVALID_","image":"i"}]}}"#,
            "\"_INVALID_\" is not a DNS label",
        ),
        ("<html><body>not here</body></html>", "is not a manifest"),
        ("# nothing\n", "holds no document"),
        ("a: [", "its answer is refused as a whole"),
        ("\u{1}", "control character"),
    ];
    for (text, part) in refused {
        let mut http = http();
        assert!(http.hear(body(text)) && http.answered());
        let (pods, problems) = listed(&http, "");
        assert!(pods.is_empty() && problems.iter().any(|why| why.contains(part)), "{text}: {problems:?}");
        assert!(!http.hear(body(text)), "{text}: not tried again before it changes");
    }
    for (text, names) in [
        (&one, &["mynamespace/foo-different-value of http://h/pods"][..]),
        (
            &list,
            &["default/foo-different-value of http://h/pods", "default/bar-different-value of http://h/pods"]
                [..],
        ),
        (&"apiVersion: v1\nkind: PodList\n".to_owned(), &[][..]),
    ] {
        let mut http = http();
        assert!(http.hear(body(text)));
        assert_eq!(
            listed(&http, ""),
            (names.iter().map(|name| (*name).to_owned()).collect(), Vec::new()),
            "{text}"
        );
    }

    let mut http = http();
    http.hear(body(&one));
    let pod = &http.taken[0].pod;
    let object = &pod.object;
    let annotations = object.metadata.annotations.as_ref().unwrap();
    assert_eq!((pod.uid.as_str(), annotations["kubernetes.io/config.hash"].as_str()), ("111", "111"));
    assert_eq!(annotations["kubernetes.io/config.source"], "http");
    let spec = object.spec.as_ref().unwrap();
    assert_eq!(spec.node_name.as_deref(), Some("different-value"));
    assert_eq!(spec.containers[0].image_pull_policy.as_deref(), Some("Always"));
    assert_eq!((spec.dns_policy.as_deref(), spec.tolerations.as_ref()), (Some("ClusterFirst"), None));
}

#[test]
fn a_uid_is_of_the_url_and_of_what_runs() {
    let uid = |url: &str, text: &str| {
        let mut http = Http::new(url.into(), "n".into());
        http.hear(body(text));
        http.taken[0].pod.uid.clone()
    };
    let first = uid(URL, &pod("a", ""));
    assert_eq!(first.len(), 32);
    assert_eq!(first, uid(URL, &format!("# a comment\n{}", pod("a", ""))));
    let file = parse(pod("a", "").as_bytes(), "f", URL, "n").pods[0].uid.clone();
    let all =
        [first, uid("http://h/others", &pod("a", "")), uid(URL, &pod("a", ", hostNetwork: true")), file];
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 4);
}

#[test]
fn the_last_good_answer_stays_and_trouble_is_told_once() {
    let mut http = http();
    let trouble = |text: &str| Answer::Trouble(text.into());
    assert!(http.hear(trouble("refused")) && !http.answered());
    assert_eq!(listed(&http, ""), (vec![], vec![": refused".to_owned()]));
    assert!(http.hear(body(&(pod("a", "") + "---\n" + &pod("b", "")))));
    let both = pods(&http);
    assert_eq!(
        both,
        ["default/a-different-value of http://h/pods", "default/b-different-value of http://h/pods#2"]
    );
    assert_eq!(listed(&http, "").1, Vec::<String>::new(), "it has recovered");
    let kept = http.taken[0].pod.clone();
    // The answer, whether it is news, and what is told.
    let table = [
        (trouble("refused"), true, "refused: its last good answer stays"),
        (trouble("refused"), false, "refused: its last good answer stays"),
        (trouble("late"), true, "late: its last good answer stays"),
        // One that comes back in the same spell is no news.
        (trouble("refused"), false, "late: its last good answer stays"),
        (body(&(pod("a", "") + "---\n" + &pod("b", ""))), true, ""),
        (trouble("refused"), true, "refused: its last good answer stays"),
        (
            body(&(pod("a", "") + "---\n" + &pod("b", ", dnsPolicy: X"))),
            true,
            "its answer is refused as a whole, and its last good answer stays",
        ),
        (
            body(&(pod("a", "") + "---\n" + &pod("b", ", dnsPolicy: X"))),
            false,
            "its answer is refused as a whole",
        ),
    ];
    for (answer, news, told) in table {
        assert_eq!(http.hear(answer.clone()), news, "{answer:?}");
        let (pods, problems) = listed(&http, "");
        assert_eq!(pods, both, "{answer:?}");
        match told {
            "" => assert_eq!(problems, [""; 0]),
            told => assert!(problems.last().unwrap().contains(told), "{problems:?}"),
        }
    }
    assert!(http.hear(body(&(pod("a", "") + "---\n" + &pod("b", ", hostNetwork: true")))));
    assert!(Arc::ptr_eq(&kept, &http.taken[0].pod) && listed(&http, "").1.is_empty());
    // At most so many reasons of one spell.
    let told = (0..100).filter(|number| http.hear(Answer::Trouble(format!("port {number}")))).count();
    assert_eq!(told, TROUBLES);
}

#[test]
fn an_empty_answer_wants_nothing_and_the_same_one_wants_it_again() {
    let mut http = http();
    http.hear(body(&pod("a", "")));
    assert!(http.hear(body("")));
    let (none, problems) = listed(&http, "");
    assert!(none.is_empty() && problems[0].contains("answered with nothing"), "{problems:?}");
    assert!(!http.hear(body("")));
    assert!(http.hear(body(&pod("a", ""))));
    assert_eq!(pods(&http).len(), 1);
}

#[test]
fn a_name_or_uid_that_a_file_has_is_the_files_and_the_first_of_a_list() {
    let mut http = http();
    let with = |name: &str, uid: &str| {
        pod(name, "").replace(&format!("name: {name}}}"), &format!("name: {name}, uid: {uid}}}"))
    };
    let text =
        [with("a", "u1"), with("b", "u2"), with("b", "u3"), with("c", "u2"), with("d", "u9")].join("---\n");
    http.hear(body(&text));
    let (pods, problems) = listed(&http, &with("a", "u9"));
    assert_eq!(pods, ["default/a-different-value of f.yaml", "default/b-different-value of http://h/pods#2"]);
    let left_out = "is taken already: this one is left out, name it otherwise";
    assert_eq!(
        problems,
        [
            format!("metadata.name: pod default/a-different-value {left_out}"),
            format!("metadata.name: pod default/b-different-value {left_out}"),
            format!("metadata.uid: u2 {left_out}"),
            format!("metadata.uid: u9 {left_out}"),
        ]
    );
}

#[test]
fn what_it_wanted_in_a_former_life_stays_until_it_answers() {
    let mut former = http();
    let config = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {a: b}\n";
    former.hear(body(&(pod("a", "") + config)));
    let mut other = Http::new("http://h/others".into(), "different-value".into());
    other.hear(body(&pod("b", "")));
    let known: Vec<_> = former.taken.iter().chain(&other.taken).map(|taken| taken.pod.clone()).collect();
    let configs: Vec<_> = former.configs.iter().map(|kept| kept.is.clone()).collect();
    let mut http = http();
    http.remember(known.into_iter(), configs.into_iter());
    assert_eq!((pods(&http), http.configs.len(), http.answered()), (pods(&former), 1, false));
    http.hear(Answer::Trouble("late".into()));
    assert_eq!(pods(&http).len(), 1);
    http.hear(body(&pod("a", "")));
    assert!(Arc::ptr_eq(&http.taken[0].pod, &former.taken[0].pod) && http.configs.is_empty());
}

#[test]
fn jobs_and_cron_jobs_are_wanted_too_and_a_files_count_first() {
    let template = "{spec: {restartPolicy: Never, containers: [{name: c, image: box}]}}";
    let job = |name: &str| {
        format!(
            "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec: {{template: {template}}}\n"
        )
    };
    let cron = format!(
        "apiVersion: batch/v1\nkind: CronJob\nmetadata: {{name: c}}\nspec: {{schedule: '@daily', jobTemplate: {{spec: \
         {{template: {template}}}}}}}\n"
    );
    let mut http = http();
    http.hear(body(&[job("a"), job("b"), cron.clone()].join("---\n")));
    let parsed = parse((job("a") + "---\n" + &cron).as_bytes(), "f.yaml", "/m/f.yaml", "different-value");
    let listed = |jobs: Vec<Job>, crons: Vec<Cron>| {
        let (jobs, crons) =
            (jobs.into_iter().map(Arc::new).collect(), crons.into_iter().map(Arc::new).collect());
        let mut listing = Listing { jobs, crons, ..Listing::default() };
        http.join(&mut listing);
        let names = listing.jobs.iter().map(|job| job.full_name());
        let names: Vec<_> = names.chain(listing.crons.iter().map(|cron| cron.full_name())).collect();
        (names, listing.problems.into_iter().map(|problem| problem.message).collect::<Vec<_>>())
    };
    let all = ["default/a", "default/b", "default/c"].map(str::to_owned).to_vec();
    assert_eq!(listed(Vec::new(), Vec::new()), (all.clone(), Vec::new()));
    let (names, problems) = listed(parsed.jobs, parsed.crons);
    assert_eq!(names, all);
    assert!(
        problems[0].starts_with("Job default/a is taken") && problems[1].starts_with("CronJob default/c")
    );
}
