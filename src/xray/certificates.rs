//! Certificates: when those of the user's own end. The authorities of a system's trust store are not the user's.

use std::collections::BTreeMap;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::layers::Stack;
use super::model::Certificate;
use crate::image::ImagePath;
use crate::packages::Packages;

/// Of one file so many are read: a longer one is a bundle of authorities.
const MOST: usize = 10;
/// So many files are told.
const MOST_FILES: usize = 100;
/// Where systems keep the authorities that they trust.
const STORES: &[&str] = &["/etc/ssl/certs", "/etc/pki", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates", "/etc/ca-certificates"];
/// Seconds of a day.
const DAY: i64 = 86_400;

/// What was found, by the file and the layer (from 0) that has it.
#[derive(Default)]
pub struct Certificates(BTreeMap<(ImagePath, usize), Vec<Certificate>>);

impl Certificates {
    /// Looks at a file of a layer.
    pub fn file(&mut self, path: &ImagePath, layer: usize, text: &[u8]) {
        let is_store = STORES.iter().any(|store| path.starts_with(&ImagePath::from(*store)));
        if is_store || self.0.len() >= MOST_FILES {
            return;
        }
        let pem = contains(text, b"-----BEGIN CERTIFICATE-----");
        let binary = [&b".der"[..], b".cer", b".crt"].iter().any(|end| path.as_bytes().ends_with(end));
        let found: Vec<Certificate> = match (pem, binary) {
            (true, _) => {
                let documents = CertificateDer::pem_slice_iter(text).take(MOST + 1).filter_map(Result::ok);
                documents.filter_map(|der| read(path, &der)).collect()
            }
            (false, true) => read(path, text).into_iter().collect(),
            (false, false) => Vec::new(),
        };
        if !found.is_empty() && found.len() <= MOST {
            self.0.insert((path.clone(), layer), found);
        }
    }

    /// Those that the merged image has and no package brought, the first to end first. `now`: seconds since 1970.
    pub fn told(self, stack: &Stack, packages: &Packages, now: i64) -> Vec<Certificate> {
        let is_there = |path: &ImagePath, layer: usize| stack.origin(path).is_some_and(|origin| origin.layer == layer);
        let own = self.0.into_iter().filter(|((path, layer), _)| is_there(path, *layer) && packages.owner(path).is_none());
        let days = |certificate: Certificate| Certificate { days_left: (certificate.ends - now).div_euclid(DAY), ..certificate };
        let mut all: Vec<Certificate> = own.flat_map(|(_, found)| found).map(days).collect();
        all.sort_by(|a, b| (a.ends, &a.path).cmp(&(b.ends, &b.path)));
        all
    }
}

/// One certificate (RFC 5280).
fn read(path: &ImagePath, der: &[u8]) -> Option<Certificate> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let end = certificate.validity().not_after;
    Some(Certificate {
        path: path.clone(),
        subject: certificate.subject().to_string(),
        not_after: end.to_datetime().date().to_string(),
        ends: end.timestamp(),
        days_left: 0,
    })
}

fn contains(text: &[u8], what: &[u8]) -> bool {
    text.windows(what.len()).any(|part| part == what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xray::secrets::Finder;

    fn pem(name: &str, year: i32) -> String {
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.not_after = rcgen::date_time_ymd(year, 3, 4);
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn those_of_the_user_are_told_and_the_first_to_end_comes_first() {
        let (mut stack, mut finder) = (Stack::default(), Finder::new().unwrap());
        let mut tar = tar::Builder::new(Vec::new());
        let bundle = pem("authority.test", 2020).repeat(MOST + 1);
        let own = format!("{}{}", pem("late.test", 2050), pem("soon.test", 2027));
        for (path, text) in [("srv/own.pem", &own), ("srv/bundle.pem", &bundle), ("etc/ssl/certs/a.pem", &pem("store.test", 2020))] {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, path, text.as_bytes()).unwrap();
        }
        stack.layer(&tar.into_inner().unwrap()[..], &mut finder, 1).unwrap();
        let now = crate::pack::source::seconds_of_rfc3339("2027-03-01T00:00:00Z").unwrap();
        let told = std::mem::take(&mut stack.certificates).told(&stack, &Packages::default(), now);
        let told: Vec<_> = told.iter().map(|c| (c.path.to_string(), c.subject.as_str(), c.not_after.as_str(), c.days_left)).collect();
        assert_eq!(told[0], ("/srv/own.pem".to_owned(), "CN=soon.test", "2027-03-04", 3));
        assert_eq!((told.len(), told[1].1), (2, "CN=late.test"));
    }

    #[test]
    fn what_is_no_certificate_is_passed_over() {
        let mut found = Certificates::default();
        found.file(&"/a.crt".into(), 0, b"\x30\x82\xff\xffrubbish");
        found.file(&"/b.pem".into(), 0, b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n");
        assert!(found.0.is_empty());
    }
}
