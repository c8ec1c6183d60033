# tls_files.sh - run by test_tls in an empty folder: the certificates and keys that its tests read, by openssl(1).
set -eu
exec >openssl.log 2>&1
far=3650

key() { # key NAME ec P-256 | rsa 2048 | ed25519
	case $2 in
	ec) openssl genpkey -algorithm EC -pkeyopt "ec_paramgen_curve:$3" -out "$1.key" ;;
	rsa) openssl genpkey -algorithm RSA -pkeyopt "rsa_keygen_bits:$3" -out "$1.key" ;;
	*) openssl genpkey -algorithm "$2" -out "$1.key" ;;
	esac
}

leaf() { # leaf NAME CN SAN: signed by the test CA; NAME.pem with the CA behind it
	openssl req -new -key "$1.key" -subj "/CN=$2" -out "$1.csr"
	printf '%s\n' "basicConstraints=critical,CA:FALSE" ${3:+"subjectAltName=$3"} >"$1.ext"
	openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days "$far" -sha256 -extfile "$1.ext" -out "$1.crt"
	cat "$1.crt" ca.pem >"$1.pem"
}

dated() { # dated NAME START END
	openssl req -new -key ec.key -subj "/CN=mx.test" -out "$1.csr"
	openssl ca -batch -notext -config ca.conf -in "$1.csr" -startdate "$2" -enddate "$3" -out "$1.pem"
}

key ca ec P-256
openssl req -x509 -new -key ca.key -subj "/O=smtpd/CN=test CA" -days "$far" -addext basicConstraints=critical,CA:TRUE -out ca.pem
: >index.txt
echo 01 >serial
cat >ca.conf <<END
[ca]
default_ca = test
[test]
dir = .
database = index.txt
serial = serial
new_certs_dir = .
certificate = ca.pem
private_key = ca.key
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
END

key ec ec P-256
leaf ec mx.test "DNS:mx.test,DNS:*.wild.test,DNS:MX2.Test,email:a@only.test"
key rsa rsa 2048
leaf rsa mx.test "DNS:mx.test,DNS:*.wild.test"
key p384 ec P-384
leaf p384 other.test "DNS:other.test,DNS:one.wild.test"
key cn ec P-256
leaf cn cn.test ""
cp cn.key san.key
leaf san hidden.test "DNS:shown.test"

# the same keys in other forms
openssl ec -in p384.key -out p384.sec1.key
{ openssl ecparam -name secp384r1; cat p384.sec1.key; } >p384.params.key
openssl rsa -in rsa.key -traditional -out rsa.pkcs1.key
cat ec.pem ec.key >both.pem
sed 's/$/\r/' ec.pem >crlf.pem
sed 's/$/\r/' ec.key >crlf.key
printf '%s' "$(cat ec.key)" >noeol.key
{ echo "text in front"; cat ec.pem; echo "and behind"; } >text.pem
openssl pkey -in ec.key -aes128 -passout pass:x -out encrypted.key
openssl rsa -in rsa.key -traditional -aes128 -passout pass:x -out legacy.key

# what cannot be served
key rsa1024 rsa 1024
leaf rsa1024 mx.test DNS:mx.test
key rsa4104 rsa 4104
leaf rsa4104 mx.test DNS:mx.test
key ed ed25519
leaf ed mx.test DNS:mx.test
key p521 ec P-521
leaf p521 mx.test DNS:mx.test
cat ca.pem ec.crt >wrong-order.pem
cat ec.crt rsa.crt >strangers.pem
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17; do cat ca.pem; done >seventeen.pem
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do cat ca.pem; done >fifteen.pem
cat ec.crt fifteen.pem >sixteen.pem
: >empty.pem
mkdir folder
echo "hello" >hello.pem
sed '3s/^..../&*/' ec.crt >star.pem
sed '3d' ec.crt >line.pem
head -n 5 ec.crt >cut.pem
head -n 3 ec.key >cut.key
cat ec.key rsa.key >two.key
sed '2s/^MI/MM/' ec.key >damaged.key
openssl rsa -in rsa.key -traditional -outform DER -out rsa.der # RFC 8017 A.1.2: version, n, e, d, p, q, dP, dQ, qInv
pem() { echo "-----BEGIN RSA PRIVATE KEY-----"; base64; echo "-----END RSA PRIVATE KEY-----"; }
{ head -c 1100 rsa.der; printf '\377\377\377\377'; tail -c +1105 rsa.der; } | pem >bad-crt.key
printf '\060\033\002\001\000\002\001\001\002\001\003\002\001\000\002\001\000\002\001\000\002\001\000\002\001\000\002\001\000' | pem >zero.key
dd if=/dev/zero of=huge.pem bs=262145 count=1
cp ec.key secret.key
chmod 0 secret.key

now=$(date +%s)
at() { date -u -d "@$((now + $1))" +%Y%m%d%H%M%SZ; }
dated expired "$(at -864000)" "$(at -86400)"
dated soon "$(at -864000)" "$(at 864000)"
dated soon-enough "$(at -864000)" "$(at 1296000)"
dated future "$(at 864000)" "$(at 8640000)"
dated far 20200101000000Z 20600101000000Z
