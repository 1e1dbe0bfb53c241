// Threads that make garbage, hand messages on, sleep, start a process and map a file; the sums tell
// whether anything was lost.
import java.io.RandomAccessFile;
import java.nio.MappedByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.*;
import java.util.concurrent.atomic.AtomicLong;

public class Churn {
  public static void main(String[] args) throws Exception {
    final int threads = Integer.parseInt(args[0]);
    final AtomicLong sum = new AtomicLong();
    final BlockingQueue<int[]> queue = new ArrayBlockingQueue<>(8);
    final CountDownLatch done = new CountDownLatch(threads);
    List<Thread> all = new ArrayList<>();
    for (int t = 0; t < threads; t++) {
      final int id = t;
      Thread thread = new Thread(() -> {
        try {
          byte[][] kept = new byte[32][];
          for (int i = 0; i < 400; i++) {
            kept[i % kept.length] = new byte[8192];
            kept[i % kept.length][i % 8192] = 1;
            if (i % 100 == 0) {
              if (id % 2 == 0) queue.put(new int[] {id, i}); else sum.addAndGet(queue.take()[1]);
            }
          }
          for (byte[] b : kept) for (byte x : b) sum.addAndGet(x);
        } catch (InterruptedException e) {
          sum.addAndGet(1_000_000);
        } finally {
          done.countDown();
        }
      });
      all.add(thread);
      thread.start();
    }
    Thread sleeper = new Thread(() -> {
      try { Thread.sleep(100_000); } catch (InterruptedException e) { System.out.println("interrupted"); }
    });
    sleeper.start();
    done.await();
    for (Thread t : all) t.join();
    sleeper.interrupt();
    sleeper.join();
    System.gc();
    System.out.println("sum " + sum.get() + " queue " + queue.size());

    Path file = Files.createTempFile(Path.of("."), "map", "");
    try (RandomAccessFile f = new RandomAccessFile(file.toFile(), "rw")) {
      MappedByteBuffer map = f.getChannel().map(FileChannel.MapMode.READ_WRITE, 0, 65536);
      map.putInt(60000, 4711);
      map.force();
      f.seek(60000);
      System.out.println("mapped " + f.readInt());
    }
    Files.delete(file);
    Process child = new ProcessBuilder("sh", "-c", "read x; echo got $x; exit 7").redirectErrorStream(true).start();
    child.getOutputStream().write("word\n".getBytes());
    child.getOutputStream().close();
    System.out.print(new String(child.getInputStream().readAllBytes()));
    System.out.println("exit " + child.waitFor() + " parallel "
        + ForkJoinPool.commonPool().submit(() -> java.util.stream.IntStream.range(0, 100000).parallel().sum()).get());
  }
}
