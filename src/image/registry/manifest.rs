//! What a registry answers for an image: a manifest, or an index of manifests for several platforms. OCI's and Docker's.

use serde::Deserialize;

use super::super::platform::Platform;
use super::super::reference::is_digest;

/// What we ask for, in the field Accept.
pub const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// Manifests, indices and configurations above this are refused.
pub const LARGEST: u64 = 4 << 20;
/// No image has more; a manifest is not believed beyond it.
const LAYERS: usize = 1000;

/// A blob, or a manifest, of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// `sha256:<64 hex>`.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// Where else it lies: Docker's foreign layers.
    pub urls: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Image {
        config: Blob,
        /// Lowest first.
        layers: Vec<Blob>,
    },
    /// The manifest that suits the platform best.
    Index(Blob),
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Document {
    schema_version: Option<u64>,
    media_type: String,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
    urls: Option<Vec<String>>,
    platform: Option<Offer>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Offer {
    os: String,
    architecture: String,
    variant: Option<String>,
}

/// Reads an answer. `said`: its Content-Type, which counts where the document does not tell its own type.
pub fn parse(bytes: &[u8], said: Option<&str>, platform: &Platform) -> Result<Answer, String> {
    let document: Document =
        serde_json::from_slice(bytes).map_err(|why| format!("the manifest is not one: {why}"))?;
    let said = said.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let kind = match document.media_type.as_str() {
        "" => said,
        own => own,
    };
    if document.schema_version == Some(1) || kind.contains("distribution.manifest.v1+") {
        return Err(
            "the registry has the image in Docker's manifest format schema 1, which is not supported: \
                    push it anew with a tool of this decade"
                .into(),
        );
    }
    if document.schema_version != Some(2) {
        return Err(format!("the manifest is not one: schemaVersion {:?}", document.schema_version));
    }
    match (document.manifests, document.config, document.layers) {
        (Some(manifests), None, None) => choose(manifests, platform),
        (None, Some(config), Some(layers)) => image(config, layers),
        _ => Err(format!("the manifest is neither an image's nor an index: media type {kind:?}")),
    }
}

fn choose(manifests: Vec<Descriptor>, platform: &Platform) -> Result<Answer, String> {
    let mut best: Option<(u32, Descriptor)> = None;
    let mut offers = Vec::new();
    for descriptor in manifests {
        let rank = match &descriptor.platform {
            // An index need not tell; then the image's own configuration does.
            None => Some(0),
            Some(Offer { os, architecture, variant }) => {
                let variant = variant.as_deref().filter(|variant| !variant.is_empty());
                if os != "unknown" {
                    let variant = variant.map(|variant| format!("/{variant}")).unwrap_or_default();
                    offers.push(format!("{os}/{architecture}{variant}"));
                }
                platform.suits(os, architecture, variant)
            }
        };
        if let Some(rank) = rank
            && best.as_ref().is_none_or(|(other, _)| *other < rank)
        {
            best = Some((rank, descriptor));
        }
    }
    match best {
        Some((_, descriptor)) => descriptor.blob("an index").map(Answer::Index),
        None => {
            offers.dedup();
            Err(format!("no match for platform {platform}: there are {}", offers.join(", ")))
        }
    }
}

fn image(config: Descriptor, layers: Vec<Descriptor>) -> Result<Answer, String> {
    let of_image = matches!(
        config.media_type.as_str(),
        "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json"
            // What docker push told before it had a type of its own.
            | "application/octet-stream"
            | ""
    );
    if !of_image {
        return Err(format!("it is no container image: its configuration is {:?}", config.media_type));
    }
    if layers.len() > LAYERS {
        return Err(format!("the manifest names {} layers, more than {LAYERS}", layers.len()));
    }
    let layers = layers.into_iter().map(|layer| {
        let kind = layer.media_type.as_str();
        let tar = ["application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs."];
        if !kind.is_empty() && (!tar.iter().any(|of| kind.starts_with(of)) || kind.ends_with("+encrypted")) {
            return Err(format!("a layer of media type {kind:?} is not supported"));
        }
        layer.blob("a layer")
    });
    let layers = layers.collect::<Result<Vec<_>, _>>()?;
    let config = config.blob("the configuration")?;
    if config.size > LARGEST {
        return Err(format!("the configuration has {} bytes, more than {LARGEST}", config.size));
    }
    Ok(Answer::Image { config, layers })
}

impl Descriptor {
    fn blob(self, what: &str) -> Result<Blob, String> {
        if !is_digest(&self.digest) {
            return Err(format!("{what} has the digest {:?}, which is not a sha256 digest", self.digest));
        }
        Ok(Blob { digest: self.digest, size: self.size, urls: self.urls.unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OCI: &str = "application/vnd.oci.image";
    const DOCKER: &str = "application/vnd.docker";

    fn digest(letter: char) -> String {
        format!("sha256:{}", letter.to_string().repeat(64))
    }

    fn descriptor(kind: &str, letter: char) -> String {
        format!(r#"{{"mediaType": "{kind}", "digest": "{}", "size": 7"#, digest(letter))
    }

    fn blob(letter: char) -> Blob {
        Blob { digest: digest(letter), size: 7, urls: Vec::new() }
    }

    fn manifest(kind: &str, config: &str, layers: &[&str]) -> String {
        let layers: Vec<_> =
            layers.iter().zip('b'..).map(|(kind, letter)| descriptor(kind, letter) + "}").collect();
        format!(
            r#"{{"schemaVersion": 2, {kind} "config": {}}}, "layers": [{}]}}"#,
            descriptor(config, 'a'),
            layers.join(", ")
        )
    }

    fn index(offers: &[&str]) -> String {
        let offers: Vec<_> = offers
            .iter()
            .zip('b'..)
            .map(|(offer, letter)| {
                let parts: Vec<_> = offer.split('/').collect();
                let platform = match parts[..] {
                    [os, architecture] => {
                        format!(r#", "platform": {{"os": "{os}", "architecture": "{architecture}"}}"#)
                    }
                    [os, architecture, variant] => format!(
                        r#", "platform": {{"os": "{os}", "architecture": "{architecture}", "variant": "{variant}"}}"#
                    ),
                    _ => String::new(),
                };
                format!("{}{platform}}}", descriptor(&format!("{OCI}.manifest.v1+json"), letter))
            })
            .collect();
        format!(r#"{{"schemaVersion": 2, "manifests": [{}]}}"#, offers.join(", "))
    }

    #[test]
    fn manifests_of_both_families_are_read() {
        let (oci, docker) = (format!("{OCI}.config.v1+json"), format!("{DOCKER}.container.image.v1+json"));
        let table: &[(String, &[&str])] = &[
            (
                oci.clone(),
                &["application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.oci.image.layer.v1.tar"],
            ),
            (oci.clone(), &["application/vnd.oci.image.layer.v1.tar+zstd"]),
            (oci.clone(), &["application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"]),
            (oci, &[]),
            (docker.clone(), &["application/vnd.docker.image.rootfs.diff.tar.gzip"]),
            (docker.clone(), &["application/vnd.docker.image.rootfs.diff.tar"]),
            (docker, &["application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"]),
        ];
        for (config, layers) in table {
            let text = manifest("", config, layers);
            let expected = Answer::Image {
                config: blob('a'),
                layers: layers.iter().zip('b'..).map(|(_, letter)| blob(letter)).collect(),
            };
            assert_eq!(parse(text.as_bytes(), None, &Platform::host()), Ok(expected), "{text}");
        }
        let text = manifest(
            "",
            "application/vnd.oci.image.config.v1+json",
            &["application/vnd.oci.image.layer.v1.tar"],
        );
        let foreign = text.replace(r#""size": 7}]"#, r#""size": 7, "urls": ["https://h/x"]}]"#);
        match parse(foreign.as_bytes(), None, &Platform::host()).unwrap() {
            Answer::Image { layers, .. } => assert_eq!(layers[0].urls, ["https://h/x"]),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_index_gives_what_suits_best() {
        // What is wanted, what is offered, and which of them it is.
        let table: &[(&str, &[&str], usize)] = &[
            ("linux/amd64", &["linux/arm64", "linux/amd64", "windows/amd64"], 1),
            ("linux/arm64", &["linux/arm/v7", "linux/arm64/v8"], 1),
            ("linux/arm64", &["linux/amd64", "linux/arm64"], 1),
            ("linux/arm/v7", &["linux/arm/v5", "linux/arm/v6", "linux/arm/v7"], 2),
            ("linux/arm/v7", &["linux/arm/v5", "linux/arm/v6"], 1),
            ("linux/arm/v6", &["linux/arm/v5", "linux/arm/v7"], 0),
            ("linux/arm/v6", &["linux/arm/v7", "linux/arm/v5"], 1),
            ("linux/amd64", &["linux/amd64", "linux/amd64/v3", "unknown/unknown"], 0),
            ("linux/amd64", &["linux/amd64", "linux/amd64"], 0),
            ("linux/amd64", &[""], 0),
            ("linux/amd64", &["", "linux/amd64"], 1),
        ];
        for (wanted, offers, place) in table {
            let platform = Platform::parse(wanted).unwrap();
            let found = parse(index(offers).as_bytes(), None, &platform);
            let letter = ('b'..).nth(*place).unwrap();
            assert_eq!(found, Ok(Answer::Index(blob(letter))), "{wanted} {offers:?}");
        }
        let none = parse(index(&["linux/s390x", "linux/arm/v7"]).as_bytes(), None, &Platform::host());
        let none = none.unwrap_err();
        assert!(none.ends_with("there are linux/s390x, linux/arm/v7"), "{none}");
    }

    #[test]
    fn what_is_no_image_is_refused_by_name() {
        let v1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
        let config = "application/vnd.oci.image.config.v1+json";
        let layer = "application/vnd.oci.image.layer.v1.tar";
        let table = [
            ("{}".to_owned(), None, "schemaVersion None"),
            ("[]".to_owned(), None, "is not one"),
            ("<html>".to_owned(), None, "is not one"),
            (r#"{"schemaVersion": 1, "fsLayers": []}"#.to_owned(), None, "schema 1"),
            (r#"{"schemaVersion": 2}"#.to_owned(), Some(v1), "schema 1"),
            (r#"{"schemaVersion": 2}"#.to_owned(), Some("text/plain; x"), "media type \"text/plain\""),
            (manifest("", "application/vnd.cncf.helm.config.v1+json", &[layer]), None, "no container image"),
            (
                manifest("", config, &["application/vnd.oci.image.layer.v1.tar+gzip+encrypted"]),
                None,
                "+encrypted",
            ),
            (manifest("", config, &["application/vnd.in-toto+json"]), None, "in-toto"),
            (manifest("", config, &[layer]).replace("sha256:bb", "sha512:bb"), None, "not a sha256 digest"),
            (manifest("", config, &[layer]).replacen(": 7", ": 5000000", 1), None, "5000000 bytes"),
            (
                manifest("", config, &vec![layer; 1001]).replace(|c| !char::is_ascii(&c), "b"),
                None,
                "1001 layers",
            ),
        ];
        for (text, said, part) in table {
            let why = parse(text.as_bytes(), said, &Platform::host()).unwrap_err();
            assert!(why.contains(part), "{text:.100}: {why}");
        }
    }
}
