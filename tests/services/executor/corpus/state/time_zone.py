# Changes the time zone.
# expect: ok
import os, time
os.environ["TZ"] = "Asia/Tokyo"
time.tzset()
print(time.tzname[0])
