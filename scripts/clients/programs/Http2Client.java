// The requests of a plan by java.net.http, all at once; see http2_plan.py.

import java.io.FileInputStream;
import java.io.InputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.security.cert.CertificateFactory;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Scanner;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

public class Http2Client {
    static String base;
    static HttpClient client;

    public static void main(String[] arguments) throws Exception {
        base = arguments[0];
        client = HttpClient.newBuilder()
            .version(HttpClient.Version.HTTP_2)
            .sslContext(trusting(arguments[1]))
            .build();
        List<Callable<String>> tasks = new ArrayList<>();
        Scanner lines = new Scanner(System.in);
        while (lines.hasNextLine()) {
            String[] line = lines.nextLine().split("\t", -1);
            tasks.add(() -> told(line));
        }
        ExecutorService threads = Executors.newFixedThreadPool(32);
        // One connection, where it would open one for each that waits.
        if (!tasks.isEmpty()) told(new String[] {"HEAD", "/files/text.txt", "0"});
        for (Future<String> answer : threads.invokeAll(tasks)) System.out.println(answer.get());
        System.exit(0);
    }

    static SSLContext trusting(String authority) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null);
        try (InputStream file = new FileInputStream(authority)) {
            store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(file));
        }
        TrustManagerFactory managers = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        managers.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, managers.getTrustManagers(), null);
        return context;
    }

    static String told(String[] line) {
        try {
            return ask(line);
        } catch (Exception error) {
            return "error\t" + error;
        }
    }

    static String ask(String[] line) throws Exception {
        boolean cancelled = line[0].equals("CANCEL");
        int length = Integer.parseInt(line[2]);
        HttpRequest.BodyPublisher body =
            length > 0 ? BodyPublishers.ofString("x".repeat(length)) : BodyPublishers.noBody();
        HttpRequest.Builder request =
            HttpRequest.newBuilder(URI.create(base + line[1])).method(cancelled ? "GET" : line[0], body);
        for (int field = 3; field < line.length; field++) {
            String[] pair = line[field].split(": ", 2);
            request.header(pair[0], pair[1]);
        }
        HttpResponse<InputStream> response = client.send(request.build(), BodyHandlers.ofInputStream());
        MessageDigest hash = MessageDigest.getInstance("SHA-256");
        byte[] buffer = new byte[cancelled ? 1 : 65536];
        long count = 0;
        try (InputStream stream = response.body()) {
            for (int size; (size = stream.read(buffer)) > 0; count += size) {
                hash.update(buffer, 0, size);
                if (cancelled) break;
            }
        }
        String version = response.version() == HttpClient.Version.HTTP_2 ? "HTTP/2.0" : "HTTP/1.1";
        List<String> fields = new ArrayList<>(List.of(version, "" + response.statusCode(), "" + count));
        fields.add(HexFormat.of().formatHex(hash.digest()));
        for (String name : List.of("etag", "content-range", "content-length")) {
            fields.add(response.headers().firstValue(name).orElse(""));
        }
        return String.join("\t", fields);
    }
}
